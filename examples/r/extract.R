# Features and an RDM in R: Rscript extract.R HOST:PORT SOURCE/NAME[@WEIGHTS] MODULE FILE...
# Needs reticulate, and a Python in which thingsvision-service is installed (RETICULATE_PYTHON).
library(reticulate)

arguments <- commandArgs(trailingOnly = TRUE)
model <- arguments[2]
module <- arguments[3]
files <- as.list(arguments[-(1:3)])

thingsvision <- import("thingsvision_client")
client <- thingsvision$Client(arguments[1])

extraction <- client$extract(model, files, module)
features <- extraction$features[[module]]  # an R array: images x axes, in the order of `files`
axes <- unlist(extraction$axes[[module]])  # what the axes after the first are: channels, height, width
dimnames(features) <- c(list(basename(unlist(files))), rep(list(NULL), length(dim(features)) - 1))
str(features)
print(axes)

rdm <- client$rdm(model, files, module, metric = "correlation")
dissimilarities <- rdm$rdms[[module]]  # images x images
print(dissimilarities)
print(summary(hclust(as.dist(dissimilarities))))
client$close()

"""PCAs: fitted on features of images, kept in files, applied to rows."""

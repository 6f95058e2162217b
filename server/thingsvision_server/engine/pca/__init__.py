"""PCAs: fitted on features of images, stored in files, applied to rows."""

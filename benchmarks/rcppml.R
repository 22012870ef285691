# RcppML's NMF as a peer of factorization.py: Rscript rcppml.R FOLDER RANK SEED SECONDS THREADS
#
# FOLDER has shape (int32: rows, columns, stored entries or 0) and values (float32, by columns), and for sparse data
# rows and starts (int32) of compressed columns. RcppML cannot go on from factors, so each fit begins anew from the same
# seed with half as many iterations again, until one takes SECONDS. Of each, FOLDER gets seconds.txt (a line: those of
# this process; elapsed with more threads) and factors.NUMBER (float64: Z by columns, W by columns).

suppressPackageStartupMessages({
  library(Matrix)
  library(RcppML)
})

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
numbers <- as.numeric(arguments[-1])
rank <- numbers[1]
threads <- numbers[4]
setRcppMLthreads(threads)

from <- function(name, what, count, size = 4) readBin(file.path(folder, name), what, count, size = size)
shape <- from("shape", "integer", 3)
if (shape[3] > 0) {
  rows <- from("rows", "integer", shape[3])
  starts <- from("starts", "integer", shape[2] + 1)
  A <- sparseMatrix(i = rows, p = starts, x = from("values", "numeric", shape[3]), dims = shape[1:2], index1 = FALSE)
} else {
  A <- matrix(from("values", "numeric", prod(shape[1:2])), shape[1], shape[2])
}
clock <- function() {
  now <- proc.time()
  if (threads > 1) now[["elapsed"]] else now[["user.self"]] + now[["sys.self"]]
}

iterations <- 1
number <- 0
repeat {
  begin <- clock()
  found <- nmf(A, rank, tol = 1e-30, maxit = iterations, verbose = FALSE, seed = numbers[2] + 1)
  seconds <- clock() - begin
  cat(seconds, "\n", file = file.path(folder, "seconds.txt"), append = TRUE)
  factors <- c(found$w %*% diag(found$d, rank), found$h)
  writeBin(as.numeric(factors), file.path(folder, paste0("factors.", number)))
  if (seconds >= numbers[3] || found$iter < iterations) break # the latter: nothing changes any more
  iterations <- ceiling(1.5 * iterations)
  number <- number + 1
}

"""Many files on many cores: the work of `pixelzip compress` and its sisters as one run.

A *run* finds files below a folder or in a bucket (`plan`), hands them in batches to a *crew* of
workers (`crew`: processes on this machine; `cluster`: a Ray cluster), each of which reads, codes
and writes its files itself (`work`, `storage`), and notes in a *manifest* what became of every file
(`manifest`). The loop that holds it together is `run`.

What a run promises:

- Whoever reads the output sees whole files only, and no file is made twice under two names.
- A line in the manifest for each file, written after the file itself. A batch's sources stand
  there before it begins. So after any end, also a pulled plug, the same run goes on where it
  stopped: what is done stays, what was under way is done again, over what it may have left.
- A file that cannot be done costs its own line. A worker that dies costs its batch's time: the
  batch is tried again in halves, until the file that kills its workers is alone.
- An original that is to be removed goes last: its output is proven and written, its line is on the
  disk, and both files, read again, are what the line says.
- Storage that goes away is waited for, ever longer between attempts. If it stays away, the run
  stops with its manifest in order.
- Memory that does not grow with the number of files, but for 16 bytes for each that an earlier
  part of the run has done, for the listing of one folder, and for the names where there are several
  inputs.
"""

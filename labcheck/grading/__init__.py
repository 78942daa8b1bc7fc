"""Grade a class: run the notebooks of others where they can do no harm, and give the marks where they can't reach them.

`batch` hands out the work; `marking` gives the marks of one notebook, from what `runner` brings from the process in which it
ran (`zygote`, `child`, confined by `sandbox`); `reports` and `exports` write what teachers and students read.
"""

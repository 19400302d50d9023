"""One recorded script of packets and admin lines, played against gearmand and against farm; replies compared.

`play` sends a script and writes down what came back; `normal` has the rules by which two records are made comparable;
`author` makes up scripts from a seed; `differences` is the table of every difference that is left.
"""

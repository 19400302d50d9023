"""The Gearman wire: packet table, encoder, incremental decoder, admin lines, names, farm's extension. No I/O.

It must not know what a packet means to a job; that is `farm.broker`.
"""

"""What runs in the jail, or on the way into it: the standard library alone, Python 3.9 or newer.

Modules here are found under the same names inside the jail, where nothing else of the package
exists. A runner is a module with ``main(payload: bytes, report: int, peer: socket | None)``: it
is called in a process of its own (pid 2 of fresh namespaces), writes its findings to the file
descriptor ``report``, and talks to the other role of its job over ``peer``.
"""

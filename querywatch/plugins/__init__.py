"""Tools that load querywatch by an entry point, and so before anybody asked for it: they import next to nothing.

In:  a tool's own hooks and options.
Out: `install()`, and what was found in the tool's own form.
"""

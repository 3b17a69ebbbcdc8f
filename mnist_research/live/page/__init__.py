"""The web page where users draw, photograph or upload a digit and see the answer.

The page is served to this machine only unless the user names an address. It loads nothing from
other machines and stores nothing: a picture is in memory only while it is read.

`address` defines where the page is and who may open it; `guard` validates requests and limits the
load; `app` has the routes; `answer` reads a picture; `server` runs until a signal; `static/` holds
the browser's files.
"""

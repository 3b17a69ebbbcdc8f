"""The page on which a person draws, shows or uploads a digit and sees it read.

It is served to this machine alone unless the user names an address, loads nothing from another
machine, and keeps nothing: a picture is in memory while it is read. `address` says where the page
is and who may open it, `guard` who is answered and how much is taken; `app` has the routes,
`answer` makes an answer of a picture, `server` runs until a signal, `static/` is what the browser
gets.
"""

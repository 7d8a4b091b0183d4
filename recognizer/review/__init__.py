"""Looking through results and correcting them: the page of a report, served with what takes corrections.

`session` keeps the state, `app` answers the page; its scripts, `review.js` and `drawing.js`, are in
`recognizer/report/page`.
"""

"""The controlled study: arms against each other over seeds, from plan to page."""

"""A terminal program that goes through trajectories; needs textual."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Header, Input, OptionList, Static

from gccpo_jax.report.entries import Entries, Entry


class Browser(App[None]):
    """Trajectories on the left, the chosen one on the right."""

    CSS = """
    #list { width: 38; height: 1fr; }
    #page { width: 1fr; height: 1fr; padding: 0 1; }
    #search { height: 3; }
    """
    BINDINGS = [
        ("j", "move(1)", "next"),
        ("k", "move(-1)", "previous"),
        ("f", "filter", "filter"),
        ("i", "details", "interventions"),
        ("slash", "search", "search"),
        ("escape", "all", "all"),
        ("q", "quit", "quit"),
    ]

    def __init__(self, entries: Entries) -> None:
        super().__init__()
        self.entries = entries
        self.shown: list[Entry] = []
        self.mark = ""  # "": all
        self.full = False

    def compose(self) -> ComposeResult:
        yield Header(icon=" ")
        yield Input(placeholder="search", id="search")
        with Horizontal():
            yield OptionList(id="list", markup=False)
            with VerticalScroll(id="page"):
                yield Static(id="text", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.title = self.entries.name
        self.choose()
        self.query_one("#list").focus()

    def choose(self) -> None:
        """Lists the trajectories that have the mark and the text that is looked for."""
        asked = self.query_one("#search", Input).value.strip().lower()
        self.shown = [
            entry
            for entry in self.entries.rows
            if (not self.mark or self.mark in entry.marks) and asked in entry.words
        ]
        chooser = self.query_one("#list", OptionList)
        chooser.clear_options()
        chooser.add_options([entry.title for entry in self.shown])
        chooser.highlighted = 0 if self.shown else None
        about = f"{self.mark}: {self.entries.filters[self.mark]}; " if self.mark else ""
        self.sub_title = f"{about}{len(self.shown)} of {len(self.entries.rows)}"
        self.show()

    def show(self) -> None:
        """Shows the chosen one from its beginning."""
        at = self.query_one("#list", OptionList).highlighted
        text = "nothing here" if at is None else self.shown[at].body(self.full)
        self.query_one("#text", Static).update(text)
        self.query_one("#page").scroll_home(animate=False)

    def on_option_list_option_highlighted(self, _: OptionList.OptionHighlighted) -> None:
        self.show()

    def on_input_changed(self, _: Input.Changed) -> None:
        self.choose()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self.query_one("#list").focus()

    def action_move(self, by: int) -> None:
        """The next trajectory, or the one before."""
        chooser = self.query_one("#list", OptionList)
        if self.shown:
            at = (chooser.highlighted or 0) + by
            chooser.highlighted = min(max(at, 0), len(self.shown) - 1)

    def action_filter(self) -> None:
        """The next filter; after the last one, all."""
        order = ["", *self.entries.filters]
        self.mark = order[(order.index(self.mark) + 1) % len(order)]
        self.choose()

    def action_details(self) -> None:
        """Shows or hides what interventions and branches said."""
        self.full = not self.full
        self.show()

    def action_search(self) -> None:
        self.query_one("#search").focus()

    def action_all(self) -> None:
        """Shows all, and leaves the search."""
        self.mark = ""
        self.query_one("#search", Input).value = ""
        self.choose()
        self.query_one("#list").focus()

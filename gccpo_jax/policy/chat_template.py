"""Chat templates: rendered the same on any day, with the arguments that a run gives them."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gccpo_jax.errors import UserError

DATE = "2024-07-26"
"""The day that templates which ask for one are told: what Llama 3.2's says without a clock."""
PLAIN = "plain prompts (--config.task.options.chat=False; evaluate: --option chat=False)"
"""What a user can ask for instead of a chat template, and how."""

_RESERVED = ("messages", "conversation", "documents", "tools", "chat_template", "strftime_now")
_RESERVED += ("add_generation_prompt", "continue_final_message", "tokenize", "tokenizer_kwargs")
_RESERVED += ("padding", "truncation", "max_length", "return_tensors", "return_dict")
_RESERVED += ("return_assistant_tokens_mask", "sanitize_control_tokens", "raise_exception")
_CLOCK = re.compile(r"""strftime_now\s*\(\s*("[^"]*"|'[^']*')\s*\)""")
Message = dict[str, str]
"""Who says what: `role` (system, user or assistant) and `content`."""

_NAME = "template"
"""Argument that chooses among several templates of one tokenizer."""


@dataclasses.dataclass(frozen=True)
class Template:
    """What a chat template is rendered with, beside the messages."""

    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # its own variables
    date: str = DATE  # YYYY-MM-DD, of `strftime_now`

    def render(self, backend: Any, prompt: str, system: str | None = None) -> str:
        """The text of a question with the answer opened.

        Raises:
          UserError: the template cannot be used, or raises by itself (with its own message).
        """
        messages = [{"role": "system", "content": system}] if system else []
        return self.render_all(backend, [*messages, {"role": "user", "content": prompt}])

    def render_all(self, backend: Any, messages: Sequence[Message]) -> str:
        """The text of a conversation with the next answer opened.

        Raises:
          UserError: as `render`.
        """
        try:
            text = backend.apply_chat_template(
                list(messages),
                chat_template=self._dated(_chosen(backend, self.arguments)),
                add_generation_prompt=True,
                tokenize=False,
                **{name: value for name, value in self.arguments.items() if name != _NAME},
            )
        except UserError:
            raise
        except Exception as error:  # a template is a program, and jinja has a class for each fault
            has_system = any(message["role"] == "system" for message in messages)
            said = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"the chat template of this tokenizer refuses the prompt ({said}); "
                f"{'the task gives a system text, leave it out, or ' if has_system else ''}"
                f"use {PLAIN}"
            ) from error
        if (asked := str(messages[-1]["content"]).strip()) not in text:
            raise UserError(
                "the chat template of this tokenizer leaves the question out or changes it "
                f"({asked[:40]!r} is not in the prompt); edit it, or use {PLAIN}"
            )
        return text

    def _dated(self, template: str) -> str:
        """The template with the day in place of its calls of the clock."""
        day = datetime.date.fromisoformat(self.date)
        dated = _CLOCK.sub(lambda call: json.dumps(day.strftime(call[1][1:-1])), template)
        if re.search(r"strftime_now\s*\(", dated):
            raise UserError(
                "the chat template of this tokenizer asks for the time in a way that cannot be "
                f"fixed, so prompts would change with it; edit it, or use {PLAIN}"
            )
        return dated

    def check(self, backend: Any, chat: bool, system: str | None) -> None:
        """Renders each argument both ways: one that changes nothing is not read.

        Args:
          backend: of the tokenizer. chat, system: of the task.
        Raises:
          UserError: an argument or a date that no prompt depends on, or that is not a template's.
        """
        if not (chat and backend.chat_template):
            if self != Template():
                raise UserError(
                    f"config.data.template = {dict(self.arguments)}, date = {self.date!r}: prompts "
                    f"of this task and model have no chat template; leave them at {{}} and {DATE!r}"
                )
            return
        for name, value in self.arguments.items():  # before one of them spoils a rendering
            if name in _RESERVED or not name.isidentifier():
                raise UserError(
                    f"config.data.template.{name} = {value!r}: not a variable of a chat template; "
                    "leave it out"
                )
        for name in self.arguments.keys() - {_NAME}:
            if not self._reads(backend, system, name):
                raise UserError(
                    f"config.data.template.{name} = {self.arguments[name]!r}: the chat template "
                    "does not read it, prompts are the same with and without it; leave it out or "
                    "check its name"
                )
        if self.date != DATE and not _CLOCK.search(_chosen(backend, self.arguments)):
            raise UserError(
                f"config.data.date = {self.date!r}: the chat template asks for no date; leave it "
                f"at {DATE!r}"
            )

    def _reads(self, backend: Any, system: str | None, name: str) -> bool:
        given = self.render(backend, "?", system)
        rest = {key: value for key, value in self.arguments.items() if key != name}
        for other in (rest, *({**rest, name: value} for value in (False, True, "?"))):
            try:
                if dataclasses.replace(self, arguments=other).render(backend, "?", system) != given:
                    return True
            except UserError:  # that it is refused shows that it is read
                return True
        return False


def _chosen(backend: Any, arguments: Mapping[str, Any]) -> str:
    """The text of the template, of several that of `arguments["template"]` or the default."""
    found = backend.chat_template
    if not isinstance(found, dict):
        if _NAME in arguments:
            raise UserError(
                f"config.data.template.{_NAME} = {arguments[_NAME]!r}: this tokenizer has one chat "
                "template; leave it out"
            )
        return found
    name = arguments.get(_NAME, "default")
    if name not in found:
        raise UserError(
            f"this tokenizer has no chat template {name!r}; set config.data.template.{_NAME} to "
            f"one of {', '.join(map(repr, sorted(found)))}"
        )
    return found[name]

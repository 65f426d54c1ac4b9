"""Text that would command a terminal, in the fields that others see."""

from __future__ import annotations

import unicodedata

from tests.attack.target import Target, require

HOSTILE = (
    "fix [/b] tags",
    "[red]x[/red]",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066a",
    "a\rb",
)
NEVER_SHOWN = {"Cc", "Cf", "Zl", "Zp"}
SHOWN = "\n\u200c\u200d"
"""Line ends, and the joiners that scripts and emoji need."""


async def hostile_names_in_a_listing(target: Target) -> int:
    """Tasks with hostile names; the listing shows them, and every one as text."""
    for name in HOSTILE:
        await target.submit(name=name)
    await _shows_text(target, "tasks")
    return len(HOSTILE)


async def hostile_names_and_reasons_of_one_task(target: Target) -> int:
    """A hostile name and a hostile reason in the details of a task."""
    for text in HOSTILE:
        task = await target.submit(name=text)
        async with target.client() as client:
            await client.post(f"/api/tasks/{task}/cancel", json={"reason": text})
        await _shows_text(target, "show", str(task))
    return 2 * len(HOSTILE)


async def hostile_dead_letters(target: Target) -> int:
    """Hostile bodies, ids and reasons among the dead letters."""
    bodies = [text.encode() for text in HOSTILE]
    sent = await target.publish("treadle.dead", "create_task", bodies, headers={"x-treadle-reason": HOSTILE[3]})
    await _shows_text(target, "dlq", "list", url=False)
    return sent


async def _shows_text(target: Target, *arguments: str, url: bool = True) -> None:
    done = await target.treadle(*arguments, url=url)
    require(done.returncode == 0, f"treadle {arguments[0]} failed: {done.stderr.decode()[-300:]}")
    output = (done.stdout + done.stderr).decode()
    bad = {char for char in output if unicodedata.category(char) in NEVER_SHOWN and char not in SHOWN}
    require(not bad, f"treadle {arguments[0]} wrote {sorted(map(ascii, bad))}")

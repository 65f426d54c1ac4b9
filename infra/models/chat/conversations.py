"""Encodes conversations: their texts fill the holes of a skeleton, and each segment is tokenized as one text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from contracts.rows import Row
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.encoded import Encoded
from infra.models.chat.encoder import Encoder, IdList, Position, Run
from infra.models.chat.refusal import Refusal
from infra.models.chat.skeleton import Segment, Skeleton
from infra.models.chat.skeletons import Skeletons
from infra.models.chat.texts import SAMPLE, quoting

Runs = list[list[Run]]
"""The runs of each segment."""


class Conversations:
    """Encodes conversations; `stops` are the tokens that end an answer, of which `closing` is added if none does."""

    def __init__(
        self, skeletons: Skeletons, encoder: Encoder, controls: ControlTokens, stops: Sequence[int], closing: int
    ) -> None:
        self._skeletons = skeletons
        self._encoder = encoder
        self._controls = controls
        self._stops = stops
        self._closing = closing

    def encode(self, rows: Sequence[Row]) -> list[Encoded | Refusal]:
        """Encode each conversation, up to the end of its last answer."""
        skeletons = [self._skeletons.of(row) for row in rows]
        filled = [
            [] if isinstance(skeleton, Refusal) else self._filled(skeleton, row)
            for skeleton, row in zip(skeletons, rows, strict=True)
        ]
        ids = self._ids(filled)
        return [
            skeleton if isinstance(skeleton, Refusal) else self._encoded(skeleton, row, runs, encoded)
            for skeleton, row, runs, encoded in zip(skeletons, rows, filled, ids, strict=True)
        ]

    def _filled(self, skeleton: Skeleton, row: Row, *, literal: bool = False) -> Runs:
        """Return the runs of a row; texts that quote a control token, or all texts if `literal`, are encoded alone."""
        return [
            self._runs(segment, row, first=index == 0, literal=literal)
            for index, segment in enumerate(skeleton.segments)
        ]

    def _runs(self, segment: Segment, row: Row, *, first: bool, literal: bool) -> list[Run]:
        position = Position.AFTER_CONTROL_TOKEN if segment.after_control_token else Position.MIDDLE
        position = Position.BEGINNING if first else position
        runs: list[Run] = []
        text = ""
        for piece, own in segment.texts(row):
            if own and piece and (literal or self._controls.first_in(piece)):
                runs += [Run(text, position)] if text else []
                position = Position.MIDDLE if text else position
                runs.append(Run(piece, position, literal=True))
                text, position = "", Position.MIDDLE
            else:
                text += piece
        return [*runs, Run(text, position)] if text else runs

    def _ids(self, filled: Sequence[Runs]) -> list[list[list[IdList]]]:
        """Return the tokens of each run of each segment of each row, encoded together."""
        flat = iter(self._encoder.encode([run for runs in filled for run in chain.from_iterable(runs)]))
        return [[list(islice(flat, len(segment))) for segment in runs] for runs in filled]

    def _encoded(
        self, skeleton: Skeleton, row: Row, runs: Runs, ids: list[list[IdList]], *, literal: bool = False
    ) -> Encoded | Refusal:
        """Join the tokens; a text that yields control tokens nevertheless is encoded literally, or refused."""
        segments = [list(chain.from_iterable(segment)) for segment in ids]
        if sum(map(self._controls.count, segments)) != self._expected(skeleton, row):
            if literal:
                return quoting(self._controls, [turn.content for turn in row.turns])
            again = self._filled(skeleton, row, literal=True)
            return self._encoded(skeleton, row, again, self._ids([again])[0], literal=True)
        pairs = zip(chain.from_iterable(runs), chain.from_iterable(ids), strict=True)
        if any(run.literal and not self._encoder.writes(run, tokens) for run, tokens in pairs):
            return quoting(self._controls, [turn.content for turn in row.turns])
        return self._joined(skeleton, segments)

    def _joined(self, skeleton: Skeleton, segments: list[IdList]) -> Encoded:
        if not skeleton.closed:
            segments[-1].append(self._closing)
        ids: IdList = []
        answers, prompt, begun = [], 0, ""
        for segment, tokens in zip(skeleton.segments, segments, strict=True):
            if segment.answer is not None:
                prompt, begun = len(ids), segment.answer.begun
                if segment.answer.learnt:
                    answers.append((prompt, prompt + self._length(tokens, segment.answer.stops)))
            ids += tokens
        return Encoded(ids, answers, prompt, skeleton.reasoning_left_out, begun)

    def _length(self, tokens: IdList, stops: int) -> int:
        """Return the number of tokens up to stop token number `stops`, or all if it is 0."""
        ends = (index + 1 for index, token in enumerate(tokens) if token in self._stops)
        return next(islice(ends, stops - 1, None), len(tokens)) if stops else len(tokens)

    def _expected(self, skeleton: Skeleton, row: Row) -> int:
        """Return how many control tokens the template writes for the row."""
        if skeleton.control_tokens is None:
            sample = {"content": SAMPLE, "reasoning": SAMPLE}
            turns = tuple(turn.model_copy(update=sample) for turn in row.turns)
            runs = self._filled(skeleton, row.model_copy(update={"turns": turns}))
            ids = chain.from_iterable(self._ids([runs])[0])
            skeleton.control_tokens = sum(map(self._controls.count, ids))
        return skeleton.control_tokens

"""Decides about the topics that the core finds in a Produce or Fetch frame and leaves undecided.

The frame is read in the core alone, the rules are known in Python alone. Names and decisions cross between
them as values, and the core calls nobody back (docs/decisions/0100, 0950). Knows no rule and no frame.
"""

from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from tidemill_broker._core import AllowedTopics, Undecided, WaitingFetch
from tidemill_broker.protocol.errors import MalformedFrame

# Of one request, topics to decide about, and those that may be denied: each costs everybody else time.
_TOPICS_MAX: Final = 20_000
_DENIALS_MAX: Final = 10_000


Result = TypeVar("Result")
# Steps, some of which are calls into the core that may be made in a thread: each is sent what it returns.
NativeSteps = Generator[Callable[[], Any] | None, Any, Result]


class TopicAuthorizer(Protocol):
    """Decides for one connection, by name, whether or not the topic exists."""

    def may_write(self, topic: str, /) -> bool:
        """Decide whether records may be appended to the topic."""

    def may_write_as(self, transactional_id: str, /) -> bool:
        """Decide whether the transactional id may be used."""

    def may_read(self, topic: str, /) -> bool:
        """Decide whether the topic's records may be read."""

    def refresh(self) -> None:
        """Have the core's `AllowedTopics` forget what they keep, if the rules have changed."""


class Decided(NamedTuple):
    """The decisions about one request, as the core takes them."""

    topics: dict[str, bool]
    transaction: bool | None


class Decisions:
    """The decisions about one request, which grow until the core can serve it."""

    def __init__(self, authorizer: TopicAuthorizer, may_use: Callable[[str], bool]) -> None:
        self._authorizer = authorizer
        self._may_use = may_use
        self._topics: dict[str, bool] = {}
        self._transaction: bool | None = None
        self._decided = self._denied = 0

    def about(self, undecided: Undecided) -> Decided:
        """Compare the version of the rules, decide what is undecided, and return all decisions so far.

        Raises MalformedFrame if the request names too many topics, or too many that are denied.
        """
        return all_steps(self.about_in_turns(undecided))

    def about_in_turns(self, undecided: Undecided) -> Generator[None, None, Decided]:
        """Do what `about` does, and yield between topics."""
        self._authorizer.refresh()
        if undecided.transactional_id is not None:
            self._transaction = self._authorizer.may_write_as(undecided.transactional_id)
        for topic in undecided.topics:
            yield
            self._topics[topic] = allowed = self._may_use(topic)
            self._decided += 1
            self._denied += not allowed
            if self._decided > _TOPICS_MAX or self._denied > _DENIALS_MAX:
                counts = f"{self._decided} topics, {self._denied} of which are denied"
                raise MalformedFrame(f"the request names {counts}: too many")
        return Decided(self._topics, self._transaction)


def all_steps(steps: NativeSteps[Result] | Generator[None, None, Result]) -> Result:
    """Take all steps at once, where nobody else needs a turn."""
    call = None
    try:
        while True:
            call = steps.send(None if call is None else call())
    except StopIteration as done:
        result: Result = done.value
        return result


def poll(
    waiting: WaitingFetch, allowed: AllowedTopics, authorizer: TopicAuthorizer, *, last: bool
) -> memoryview | None:
    """Try a waiting fetch again, with the decisions of now; with `last` it is answered with what there is.

    Raises MalformedFrame, OSError.
    """
    answer = waiting.poll(allowed, last=last)
    if isinstance(answer, Undecided):
        decisions = Decisions(authorizer, authorizer.may_read)
        while isinstance(answer, Undecided):
            answer = waiting.poll(allowed, decisions.about(answer), last=last)
    return answer

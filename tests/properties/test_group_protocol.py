"""Random clients, static and dynamic, against the group coordinator in virtual time.

Whatever they do: generations only rise, a leader is a member, a share belongs to the generation it was asked
for, every request is answered by the deadlines at the latest, and the log alone leads to the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.fakes.group_shell import GROUP, GroupShell, subscription
from tidemill_broker.coordinators.group import Group, Limits, State
from tidemill_broker.coordinators.messages import JoinReply, SyncReply, Ticket
from tidemill_broker.protocol.errors import ErrorCode

CLIENTS = st.integers(0, 4)
STATIC = 2  # the first clients have an instance id
LONG_MS = 4_000_000  # past every deadline of the machine


@dataclass
class Client:
    """What a client remembers: its id, the generation it was told of, the requests it waits for."""

    instance_id: str | None
    member_id: str = ""
    generation: JoinReply | None = None
    waits: dict[Ticket, JoinReply | None] = field(default_factory=dict)  # a sync's ticket -> what it follows


class GroupProtocol(RuleBasedStateMachine):
    """One group and five clients."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = GroupShell()
        self.clients = [Client(f"i{n}" if n < STATIC else None) for n in range(5)]
        self.generation = 0

    @initialize(delay_ms=st.sampled_from([0, 3_000]), size=st.sampled_from([3, 1_000]))
    def begin(self, delay_ms: int, size: int) -> None:
        self.shell = GroupShell(Limits(group_initial_rebalance_delay_ms=delay_ms, group_max_size=size))

    @rule(
        n=CLIENTS,
        topics=st.sampled_from([("flights",), ("flights", "delays")]),
        names=st.sampled_from([("range",), ("range", "sticky"), ("sticky", "range")]),
        old=st.booleans(),
    )
    def join(self, n: int, topics: tuple[str, ...], names: tuple[str, ...], *, old: bool) -> None:
        client = self.clients[n]
        ticket = self.shell.begin_join(
            client.member_id,
            instance_id=client.instance_id,
            protocols=tuple((name, subscription(*topics)) for name in names),
            knows_member_id_required=not old,
            can_skip_assignment=not old,
        )
        client.waits[ticket] = None
        self.collect()

    @rule(n=CLIENTS)
    def sync(self, n: int) -> None:
        client = self.clients[n]
        reply = client.generation
        if reply is None:
            return
        leads = reply.leader == reply.member_id and not reply.skip_assignment
        shares = {
            member.member_id: f"{reply.generation}".encode() for member in (reply.members if leads else ())
        }
        ticket = self.shell.begin_sync(reply, shares, instance_id=client.instance_id)
        client.waits[ticket] = reply
        self.collect()

    @rule(n=CLIENTS)
    def heartbeat(self, n: int) -> None:
        client = self.clients[n]
        if client.generation is not None:
            error = self.shell.heartbeat(client.generation, client.instance_id)
            if error is ErrorCode.none:
                assert client.generation.generation == self.group.generation
            self.collect()

    @rule(n=CLIENTS)
    def commit(self, n: int) -> None:
        client = self.clients[n]
        if client.generation is not None:
            error = self.shell.commit(
                self.shell.now_ms,
                member_id=client.member_id,
                generation=client.generation.generation,
                instance_id=client.instance_id,
            )
            assert (error is ErrorCode.none) <= (self.shell.offset() == self.shell.now_ms)

    @rule(n=CLIENTS)
    def leave(self, n: int) -> None:
        client = self.clients[n]
        if client.member_id:
            self.shell.leave((client.member_id, client.instance_id))
            self.collect()

    @rule(n=CLIENTS)
    def lose_connection(self, n: int) -> None:
        client = self.clients[n]
        for ticket in list(client.waits):
            self.shell.carry_out(self.shell.coordinator.abandon(GROUP, ticket, self.shell.now_ms))
            del client.waits[ticket]
        self.collect()

    @rule(n=CLIENTS)
    def restart_client(self, n: int) -> None:
        """As a process that died and came back: it remembers nothing."""
        self.lose_connection(n)
        self.clients[n] = Client(self.clients[n].instance_id)

    @rule(ms=st.sampled_from([1, 2_999, 5_000, 10_000, 60_000]))
    def advance(self, ms: int) -> None:
        self.shell.advance(ms)
        self.collect()

    @rule()
    def restart_broker(self) -> None:
        """A Stable group is as it was. A generation that nobody had fetched yet is forgotten, as in Kafka."""
        group = self.group
        self.shell = self.shell.restarted()
        if group.state is State.STABLE:
            assert self.group.members.keys() == group.members.keys()
        self.generation = self.group.generation
        for client in self.clients:
            client.waits.clear()

    @property
    def group(self) -> Group:
        absent = Group(group_id=GROUP, since_ms=0)
        return self.shell.coordinator._groups.get(GROUP, absent)

    def collect(self) -> None:
        """Hand the replies that came to their clients."""
        for client in self.clients:
            for ticket in [ticket for ticket in client.waits if ticket in self.shell.replies]:
                self.receive(client, self.shell.replies[ticket], client.waits.pop(ticket))

    def receive(self, client: Client, reply: JoinReply | SyncReply, asked: JoinReply | None) -> None:
        if isinstance(reply, SyncReply):
            assert asked is not None
            if reply.error is ErrorCode.none:
                assert reply.assignment in {b"", f"{asked.generation}".encode()}
            return
        client.generation = None
        if reply.error in {ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id}:
            client.member_id = ""
        elif reply.member_id:
            client.member_id = reply.member_id
        if reply.error is ErrorCode.none:
            assert reply.generation <= self.group.generation
            assert bool(reply.members) <= (reply.leader == reply.member_id)
            client.generation = reply

    @invariant()
    def generations_only_rise(self) -> None:
        assert self.group.generation >= self.generation or self.group.generation == 0
        self.generation = self.group.generation

    @invariant()
    def a_formed_group_is_led_by_a_member(self) -> None:
        group = self.group
        if group.state in {State.COMPLETING, State.STABLE}:
            assert group.leader in group.members
            assert all(group.protocol in dict(member.protocols) for member in group.members.values())
        assert (group.state is State.EMPTY) <= (not group.members)

    @invariant()
    def nobody_waits_in_the_wrong_state(self) -> None:
        group = self.group
        if any(member.joining for member in group.members.values()):
            assert group.state is State.PREPARING
            assert group.join_deadline_ms is not None
        if any(member.syncing for member in group.members.values()):
            assert group.state is State.COMPLETING
            assert group.sync_deadline_ms is not None

    @invariant()
    def an_instance_id_has_one_holder(self) -> None:
        held = [member.instance_id for member in self.group.members.values() if member.instance_id]
        assert len(held) == len(set(held))

    @invariant()
    def the_log_alone_leads_to_the_same_state(self) -> None:
        again = self.shell.restarted()
        assert list(again.coordinator.snapshot()) == list(self.shell.coordinator.snapshot())

    def teardown(self) -> None:
        """Nobody waits for ever."""
        self.advance(LONG_MS)
        assert not any(client.waits for client in self.clients)
        assert not self.group.members
        assert not self.group.pending


TestGroupProtocol = GroupProtocol.TestCase
TestGroupProtocol.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None, derandomize=True
)

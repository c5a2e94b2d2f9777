"""Exhaustive check of the log of tails with parts of unequal length, "claimed" before they are put (docs/storage.md, decision 0024).

A small world: a file of T bytes, two replicas, one client whose packets may be duplicated, abandoned or contradict each other in where
they end, crashes that lose all memory. Every request to the store is one atomic step; between any two of one replica the other one may do
anything, so that a put that was decided on can arrive arbitrarily late.

Always true in a good variant:
  A  no answer takes back an acknowledged offset
  B  every acknowledged byte is in a recorded part or in a tail
  C  under the number of a recorded part the store holds exactly the bytes that the record says
  D  every recorded part but the last one is at least U bytes long, no number is recorded twice, and the parts follow each other
  E  no tail reaches beyond the end of a claim that it begins in: a part never ends within a tail

Usage: claims.py VARIANT [T,U] shows what it finds in a world of 4,2. Without arguments every variant is run, the good ones in a world of
3,2, and has to do what is expected of it."""
import subprocess
import sys
from collections import deque

GOOD = {
    "design": "a claim is for ever: who finds one that does not fit its fragment stores up to its end",
    "retire": "a claim that does not fit is given up: its number is never used again",
}
MISTAKES = {
    "claimafter": "the part is put first, and claimed with the write that records it",
    "reclaim": "a claim that does not fit is replaced under the same number",
    "retiredlisted": "a part that was put under a number that has been given up is recorded all the same",
    "recordfirst": "the record, with its claims, is read before the tails are listed",
    "longtail": "bytes enough for a part are kept as a tail that nobody claimed",
    "shortclaim": "a claim may be shorter than a tail that nobody claimed",
    "cachedrefusal": "a packet that does not fit the memory of a replica is answered from there",
    "predelete": "tails go before the record lists the part that covers them",
    "overwrite": "a tail is put unconditionally",
}

# So often a claim is given up, in the variants that do: without a bound there would be no end to their states.
RETIRED = 2

# store:   (version, parts, claims, next number, tails, held)
#          parts: recorded ((number, from, to), ..); claims: the same, not yet recorded; held: what lies under each number in the store
# replica: (view, handler); view = (version, parts, claims, next number, end) or None
# handler: (live, from, to, step, note); live: its answer still reaches the client
NOTHING = (0, (), (), 1, frozenset(), frozenset())


def ends_at(parts):
    return parts[-1][2] if parts else 0


def chain(end, tails):
    moved = True
    while moved:
        moved = False
        for a, b in tails:
            if a <= end < b:
                end, moved = b, True
    return end


class Model:
    def __init__(self, variant, total, unit):
        self.variant, self.total, self.unit = variant, total, unit
        self.retires = variant in ("retire", "reclaim", "retiredlisted")

    def view(self, record, tails):
        version, parts, claims, number = record
        return version, parts, claims, number, chain(ends_at(parts), tails)

    def next(self, handler, view):
        """What the memory of a replica says to a fragment that is being stored: the next step."""
        live, start, to, _, _ = handler
        _, parts, claims, _, end = view
        if end >= to:
            return None, (200, end)
        cut = claims[-1][2] if claims else ends_at(parts)
        if claims and self.retires and claims[0][2] != to and to - claims[0][1] >= self.unit and view[3] <= RETIRED:
            return "retire", None
        if claims and claims[0][2] <= to:
            return "put", None
        if not claims and (to - cut >= self.least() or to == self.total):
            return ("put" if self.variant == "claimafter" else "claim"), None
        return "tail", None

    def least(self):
        return self.unit - 1 if self.variant == "shortclaim" else self.unit

    def step(self, store, view, handler):
        """All results of the next atomic step of a handler: store, view, handler or None, answer or None."""
        version, parts, claims, number, tails, held = store
        live, start, to, at, note = handler

        def go(at, note=None):
            return live, start, to, at, note

        if at == "start":
            if view is None or (start != view[4] and self.variant != "cachedrefusal"):
                yield store, None, go("first"), None
            else:
                yield from self.decide(store, view, handler)
        elif at == "first":
            first = (version, parts, claims, number) if self.variant == "recordfirst" else tails
            yield store, None, go("second", first), None
        elif at == "second":
            if self.variant == "recordfirst":
                yield store, self.view(note, tails), go("decide"), None
            else:
                yield store, self.view((version, parts, claims, number), note), go("decide"), None
        elif at == "decide":
            yield from self.decide(store, view, handler)
        elif at in ("claim", "retire"):
            _, _, seen, _, end = view
            if version != view[0]:
                yield store, None, go("first"), None
                return
            if at == "retire":
                begin, named = claims[0][1], claims[0][0] if self.variant == "reclaim" else number
            else:
                begin, named = ends_at(parts), number
            after = ((named, begin, to),)
            number = max(number, named + 1)
            store = (version + 1, parts, after, number, tails, held)
            yield store, (version + 1, parts, after, number, end), go("on"), None
        elif at == "put":
            # What is put is what the memory of this replica says, however old it is by now.
            mine = view[2][0] if view[2] else (view[3], ends_at(view[1]), to)
            held = frozenset(h for h in held if h[0] != mine[0]) | {mine}
            after = "predelete" if self.variant == "predelete" else "record"
            yield (version, parts, claims, number, tails, held), view, go(after, mine), None
        elif at == "predelete":
            covered = [t for t in tails if t[1] <= note[2]]
            for tail in covered:
                yield (version, parts, claims, number, tails - {tail}, held), view, handler, None
            if not covered:
                yield store, view, go("record", note), None
        elif at == "record":
            blind = self.variant == "retiredlisted" and ends_at(parts) == note[1]
            if version != view[0] and not blind:
                yield store, None, go("first"), None
                return
            parts += (note,)
            if not blind:
                claims = tuple(c for c in claims if c[1] >= note[2])
            number = max(number, note[0] + 1)
            end = max(view[4], note[2])
            store = (version + 1, parts, claims, number, tails, held)
            yield store, (version + 1, parts, claims, number, end), go("delete"), None
        elif at == "delete":
            covered = [t for t in tails if t[1] <= ends_at(view[1])]
            for tail in covered:
                yield (version, parts, claims, number, tails - {tail}, held), view, handler, None
            yield store, view, go("on"), None
        elif at == "tail":
            end = view[4]
            upto = to
            if view[2]:
                upto = min(to, view[2][0][2])
            exists = any(a == end for a, _ in tails)
            if exists and self.variant != "overwrite":
                yield store, None, go("first"), None
                return
            tails = frozenset(t for t in tails if t[0] != end) | {(end, upto)}
            yield (version, parts, claims, number, tails, held), view[:4] + (upto,), go("on"), None
        elif at == "on":
            yield from self.act(store, view, handler)

    def decide(self, store, view, handler):
        if handler[1] > view[4]:
            yield store, view, None, (416, view[4])
        else:
            yield from self.act(store, view, handler)

    def act(self, store, view, handler):
        at, answer = self.next(handler, view)
        if answer:
            yield store, view, None, answer
            return
        yield store, view, handler[:3] + (at, None), None
        if at == "claim" and self.variant == "longtail" and handler[2] < self.total:
            yield store, view, handler[:3] + ("tail", None), None

    def broken(self, store, acked):
        _, parts, claims, _, tails, held = store
        if chain(ends_at(parts), tails) < acked:
            return "an acknowledged byte is not stored"
        end = 0
        for part in parts:
            if part not in held:
                return f"the store holds something else under the number of the recorded part {part}"
            if part[1] != end:
                return f"the part {part} does not follow what ends at {end}"
            if part[2] - part[1] < self.unit and part[2] != self.total:
                return f"the part {part} is too short"
            end = part[2]
        numbers = [part[0] for part in parts]
        if sorted(set(numbers)) != numbers:
            return f"the numbers {numbers} do not ascend"
        if not self.retires:
            for _, begin, cut in parts + claims:
                for a, b in tails:
                    if begin <= a < cut < b:
                        return f"the tail {(a, b)} reaches beyond the part that ends at {cut}"
        return None

    def plain(self, state):
        """The same state, told in one way only: of a version it counts only whether it is the present one, and which replica is which does
        not count at all."""
        store, (pos, acked, current), replicas = state
        version, plain = store[0], []
        for view, handler in replicas:
            if view is not None:
                view = (0 if view[0] == version else -1,) + view[1:]
            if handler is not None and handler[3] == "second" and self.variant == "recordfirst":
                note = handler[4]
                handler = handler[:4] + ((0 if note[0] == version else -1,) + note[1:],)
            plain.append((view, handler))
        if repr(plain[1]) < repr(plain[0]):
            plain.reverse()
            current = current if current is None else 1 - current
        return (0,) + store[1:], (pos, acked, current), tuple(plain)

    def search(self):
        first = (NOTHING, (0, 0, None), ((None, None), (None, None)))
        came = {first: None}
        queue = deque([first])
        found = None

        def push(state, before, why):
            state = self.plain(state)
            if state in came:
                return None
            came[state] = (before, why)
            queue.append(state)
            broken = self.broken(state[0], state[1][1])
            return (state, broken) if broken else None

        while queue and not found:
            state = queue.popleft()
            for after, why, wrong in self.moves(state):
                if wrong:
                    came.setdefault(after, (state, why))
                    found = (after, wrong)
                    break
                found = push(after, state, why)
                if found:
                    break
        return came, found

    def moves(self, state):
        """What can happen next: the state after it, what it was, and what is wrong with it."""
        store, (pos, acked, current), replicas = state
        if pos < self.total:
            base = list(replicas)
            if current is not None and base[current][1] is not None:
                view, handler = base[current]
                base[current] = (view, (False,) + handler[1:])
            for at in (0, 1):
                for to in range(pos + 1, self.total + 1):
                    told = f"the client sends [{pos},{to}) to {at}" + ("" if current is None else " after giving up")
                    one = list(base)
                    one[at] = (one[at][0], (True, pos, to, "start", None))
                    yield (store, (pos, acked, at), tuple(one)), told, None
                    other = 1 - at
                    if one[other][1] is None:
                        two = list(one)
                        two[other] = (two[other][0], (False, pos, to, "start", None))
                        yield (store, (pos, acked, at), tuple(two)), f"{told}, duplicated to {other}", None
        for at in (0, 1):
            view, handler = replicas[at]
            if view is not None or handler is not None:
                one = list(replicas)
                one[at] = (None, None)
                yield (store, (pos, acked, None if current == at else current), tuple(one)), f"{at} crashes", None
            if handler is None:
                continue
            for after, view_after, handler_after, answer in self.step(store, view, handler):
                one = list(replicas)
                one[at] = (view_after, handler_after)
                client, wrong = (pos, acked, current), None
                if answer and handler[0]:
                    code, offset = answer
                    if offset < acked:
                        wrong = f"the answer {answer} takes back {acked}"
                    client = (offset, max(acked, offset) if code == 200 else acked, None)
                why = f"{at}: {handler[3]}" + (f", answers {answer}" if answer else "")
                yield (after, client, tuple(one)), why, wrong


def run(variant, total, unit):
    came, found = Model(variant, total, unit).search()
    if not found:
        print(f"{variant}: holds in all {len(came)} states")
        return 0
    state, wrong = found
    print(f"{variant}: {wrong}; found after {len(came)} states:")
    told = []
    while came[state] is not None:
        state, why = came[state]
        told.append(why)
    for why in reversed(told):
        print("   ", why)
    return 1


def main():
    if len(sys.argv) > 1:
        total, unit = (int(x) for x in (sys.argv[2] if len(sys.argv) > 2 else "4,2").split(","))
        return run(sys.argv[1], total, unit)
    wrong = 0
    for variant in [*GOOD, *MISTAKES]:
        world = "3,2" if variant in GOOD else "4,2"
        done = subprocess.run([sys.executable, __file__, variant, world], capture_output=True, text=True, check=False)
        expected = 0 if variant in GOOD else 1
        print(done.stdout.splitlines()[0] if done.stdout else done.stderr)
        if done.returncode != expected:
            print(f"NOT AS EXPECTED: {variant}")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())

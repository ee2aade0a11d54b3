//! The simulated network: streams as TCP gives them (in order, each direction for itself), and what happens to them:
//! delays, stalls, cuts of one direction, breaks that lose what is on its way and that either side may never hear of.
use super::agenda::{Agenda, Happening};
use super::random::Random;

use lb_peers::replicator::LinkId;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// What was sent over a cut direction is tried again after this.
const RETRY: Duration = Duration::from_millis(50);
/// Frames on their way to one end at most; a replicator that sent more would need memory for a peer that is slow.
const ON_THE_WAY: usize = 300;

/// A node's end of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) link: LinkId,
}

#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Frame(Vec<u8>),
    Closed(&'static str),
}

struct End {
    owner: Owner,
    open: bool,
    /// What is on its way to this end, and when it arrives.
    inbox: VecDeque<(Duration, Arrival)>,
    /// A delivery is on the agenda.
    awaited: bool,
    stalled_until: Duration,
}

struct Stream {
    ends: [End; 2],
    /// What is sent from now on is lost.
    broken: bool,
}

pub(crate) struct Net {
    streams: Vec<Stream>,
    /// Directions in which nothing comes through.
    cut: BTreeSet<(usize, usize)>,
    random: Random,
    /// Greatest delay of a frame, in microseconds.
    pub(crate) delay: u64,
    /// A stream that is closed may lose what is on its way, as one does that is closed with data unread.
    pub(crate) rough: bool,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let (streams, cut, random) = (Vec::new(), BTreeSet::new(), Random(seed));
        Self { streams, cut, random, delay: 20_000, rough: false }
    }

    /// A new stream between a dialler (end 0) and an acceptor (end 1).
    pub(crate) fn open(&mut self, owners: [Owner; 2]) -> usize {
        let end =
            |owner| End { owner, open: true, inbox: VecDeque::new(), awaited: false, stalled_until: Duration::ZERO };
        self.streams.push(Stream { ends: owners.map(end), broken: false });
        self.streams.len() - 1
    }

    /// Streams whose both ends live.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.iter().filter(|s| s.ends.iter().all(|e| e.open)).count()
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.streams.iter_mut().flat_map(|s| &mut s.ends).for_each(|end| end.stalled_until = Duration::ZERO);
    }

    /// Whether two nodes can't open a stream: that takes both directions.
    pub(crate) fn are_apart(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// Puts something on its way to an end.
    pub(crate) fn send(&mut self, agenda: &mut Agenda, stream: usize, to: usize, what: Arrival) {
        if self.streams[stream].broken || !self.streams[stream].ends[to].open {
            return;
        }
        let delay = self.random.micros(100, self.delay);
        self.push(agenda, stream, to, delay, what);
    }

    fn push(&mut self, agenda: &mut Agenda, stream: usize, to: usize, delay: Duration, what: Arrival) {
        let end = &mut self.streams[stream].ends[to];
        let last = end.inbox.back().map_or(Duration::ZERO, |(at, _)| *at);
        end.inbox.push_back(((agenda.at + delay).max(last), what));
        assert!(end.inbox.len() < ON_THE_WAY, "memory for a peer is bounded whatever it does");
        self.await_next(agenda, stream, to);
    }

    fn await_next(&mut self, agenda: &mut Agenda, stream: usize, to: usize) {
        let end = &mut self.streams[stream].ends[to];
        let Some((at, _)) = end.inbox.front().filter(|_| !end.awaited) else { return };
        let at = (*at).max(end.stalled_until);
        end.awaited = true;
        agenda.add(at, Happening::Deliver { stream, end: to });
    }

    /// Whose end it is that something is due at.
    pub(crate) fn owner(&self, stream: usize, end: usize) -> Owner {
        self.streams[stream].ends[end].owner
    }

    /// The next thing that has arrived at an end, unless the way to it is cut or it reads nothing until `frozen`.
    pub(crate) fn deliver(
        &mut self,
        agenda: &mut Agenda,
        (stream, to): (usize, usize),
        frozen: Option<Duration>,
    ) -> Option<Arrival> {
        let from = self.streams[stream].ends[1 - to].owner.node;
        let end = &mut self.streams[stream].ends[to];
        end.awaited = false;
        if !end.open {
            end.inbox.clear();
            return None;
        }
        let cut = self.cut.contains(&(from, end.owner.node)).then(|| agenda.at + RETRY);
        let blocked = frozen.max(cut).max(Some(end.stalled_until).filter(|at| *at > agenda.at));
        if let (Some(until), Some((at, _))) = (blocked, end.inbox.front_mut()) {
            *at = until.max(*at);
        }
        let due = end.inbox.front().is_some_and(|(at, _)| *at <= agenda.at);
        let what = if due { end.inbox.pop_front() } else { None };
        if matches!(what, Some((_, Arrival::Closed(_)))) {
            end.open = false;
        }
        self.await_next(agenda, stream, to);
        what.map(|(_, what)| what)
    }

    /// One end closes; the other is told after all that was sent before.
    pub(crate) fn close(&mut self, agenda: &mut Agenda, stream: usize, end: usize, why: &'static str) {
        if !std::mem::replace(&mut self.streams[stream].ends[end].open, false) {
            return;
        }
        if self.rough && self.random.below(4) == 0 {
            self.lose(stream, 1 - end);
        }
        self.send(agenda, stream, 1 - end, Arrival::Closed(why));
    }

    /// A machine is gone without a word: its peers' ends stay, and nobody is behind them.
    pub(crate) fn vanish(&mut self, stream: usize, end: usize) {
        self.streams[stream].ends[end].open = false;
        self.streams[stream].broken = true;
    }

    /// Loses the later part of what is on its way to an end.
    fn lose(&mut self, stream: usize, to: usize) {
        let inbox = &mut self.streams[stream].ends[to].inbox;
        inbox.truncate(self.random.below(inbox.len() as u64 + 1) as usize);
    }

    /// A stream with both ends open.
    fn pick(&self, pick: u64) -> Option<usize> {
        let open: Vec<usize> =
            (0..self.streams.len()).filter(|s| self.streams[*s].ends.iter().all(|e| e.open)).collect();
        (!open.is_empty()).then(|| open[(pick % open.len() as u64) as usize])
    }

    /// A stream breaks: all that is on its way is lost, and both ends are told at once.
    pub(crate) fn break_one(&mut self, agenda: &mut Agenda, pick: u64) {
        let Some(stream) = self.pick(pick) else { return };
        self.streams[stream].broken = true;
        for end in 0..2 {
            self.streams[stream].ends[end].inbox.clear();
            self.push(agenda, stream, end, Duration::ZERO, Arrival::Closed("broken"));
        }
    }

    /// A stream breaks, for each end in a way of its own: some of what is on its way still arrives; the end is told at
    /// once, later, or never.
    pub(crate) fn break_unevenly(&mut self, agenda: &mut Agenda, pick: u64) {
        let Some(stream) = self.pick(pick) else { return };
        self.streams[stream].broken = true;
        for end in 0..2 {
            self.lose(stream, end);
            let told = match self.random.below(4) {
                0 => Some(Duration::ZERO),
                1 | 2 => Some(self.random.micros(0, 3_000_000)),
                _ => None,
            };
            if let Some(delay) = told {
                self.push(agenda, stream, end, delay, Arrival::Closed("broken"));
            }
        }
    }

    /// One direction of a stream stands still for a time.
    pub(crate) fn stall(&mut self, agenda: &Agenda, pick: u64, time: Duration) {
        if let Some(stream) = self.pick(pick / 2) {
            self.streams[stream].ends[(pick % 2) as usize].stalled_until = agenda.at + time;
        }
    }

    /// The next frame on its way in one direction comes twice, which no TCP does: the protocol must see it or bear it.
    pub(crate) fn double(&mut self, pick: u64) {
        let Some(stream) = self.pick(pick / 2) else { return };
        let inbox = &mut self.streams[stream].ends[(pick % 2) as usize].inbox;
        if let Some((at, what @ Arrival::Frame(_))) = inbox.front().cloned() {
            inbox.push_front((at, what));
        }
    }
}

//! Bad links between nodes: requests and answers that are lost, late, or arrive twice. Per directed pair.
//!
//! It stands between a node and its TCP transport, so a lost message costs its sender the whole timeout, as on a real network where
//! a connection has died silently. Client connections are cut in madsim itself (`nemesis`).

use crate::draw::{Draws, Source, Stream};
use crate::history::NodeNo;
use bytes::Bytes;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::time::Instant;
use floss_raft::env::runtime::{spawn, time};
use floss_raft::transport::{PeerRequest, Transport, TransportError};
use floss_raft::types::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// All links of a cluster.
pub struct Links {
    draws: Draws,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many faults cut a link at the moment.
    cut: BTreeMap<(NodeNo, NodeNo), u32>,
    loss_per_mille: u64,
    delay_ms_max: u64,
    twice_per_mille: u64,
    reset_per_mille: u64,
    /// What these nodes send is late by up to so many ms.
    slow: BTreeMap<NodeNo, u64>,
    sources: BTreeMap<(NodeNo, NodeNo), Arc<LinkSource>>,
    /// Nothing overtakes on a link: when the last delayed message leaves.
    leaves: BTreeMap<(NodeNo, NodeNo), Instant>,
    counts: LinkCounts,
}

struct LinkSource {
    loss: Source,
    delay: Source,
    twice: Source,
    reset: Source,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    pub cut: u64,
    pub lost: u64,
    pub delayed: u64,
    pub doubled: u64,
    pub reset: u64,
    pub slowed: u64,
}

struct Fate {
    lost: bool,
    delay: Duration,
    again_after: Option<Duration>,
    /// It arrives, and the connection breaks.
    reset: bool,
}

impl Links {
    pub fn new(draws: Draws) -> Self {
        Self { draws, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn cut(&self, from: NodeNo, to: NodeNo) {
        *self.state().cut.entry((from, to)).or_default() += 1;
    }

    pub fn mend(&self, from: NodeNo, to: NodeNo) {
        if let Some(cuts) = self.state().cut.get_mut(&(from, to)) {
            *cuts = cuts.saturating_sub(1);
        }
    }

    /// Loss of all links, per mille, on top of what is there; negative takes away.
    pub fn add_loss(&self, per_mille: i64) {
        let mut state = self.state();
        state.loss_per_mille = state.loss_per_mille.saturating_add_signed(per_mille);
    }

    pub fn add_delay(&self, ms_max: i64) {
        let mut state = self.state();
        state.delay_ms_max = state.delay_ms_max.saturating_add_signed(ms_max);
    }

    pub fn add_twice(&self, per_mille: i64) {
        let mut state = self.state();
        state.twice_per_mille = state.twice_per_mille.saturating_add_signed(per_mille);
    }

    pub fn add_reset(&self, per_mille: i64) {
        let mut state = self.state();
        state.reset_per_mille = state.reset_per_mille.saturating_add_signed(per_mille);
    }

    /// What `from` sends is late by up to `ms_max` more; negative takes away.
    pub fn add_slowness(&self, from: NodeNo, ms_max: i64) {
        let mut state = self.state();
        let slow = state.slow.entry(from).or_default();
        *slow = slow.saturating_add_signed(ms_max);
    }

    /// No cut, no loss, no delay.
    pub fn mend_all(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.slow.clear();
        (state.loss_per_mille, state.delay_ms_max, state.twice_per_mille, state.reset_per_mille) = (0, 0, 0, 0);
    }

    pub fn counts(&self) -> LinkCounts {
        self.state().counts
    }

    fn fate(&self, from: NodeNo, to: NodeNo) -> Fate {
        let mut state = self.state();
        let state = &mut *state;
        let entity = from << 8 | to;
        let source = state.sources.entry((from, to)).or_insert_with(|| {
            let source = |stream| self.draws.source(stream, entity);
            Arc::new(LinkSource {
                loss: source(Stream::LinkLoss),
                delay: source(Stream::LinkDelay),
                twice: source(Stream::LinkTwice),
                reset: source(Stream::LinkReset),
            })
        });
        let cut = state.cut.get(&(from, to)).is_some_and(|cuts| *cuts > 0);
        let lost = state.loss_per_mille > 0 && source.loss.chance(state.loss_per_mille);
        state.counts.cut += u64::from(cut);
        state.counts.lost += u64::from(lost && !cut);
        let mut delay = Duration::ZERO;
        let slow_ms_max = state.slow.get(&from).copied().unwrap_or(0);
        if state.delay_ms_max + slow_ms_max > 0 {
            delay = Duration::from_millis(source.delay.below(state.delay_ms_max + slow_ms_max + 1));
            state.counts.delayed += u64::from(state.delay_ms_max > 0 && !delay.is_zero());
            state.counts.slowed += u64::from(slow_ms_max > 0 && !delay.is_zero());
        }
        let now = Instant::now();
        if let Some(leaves) = state.leaves.get(&(from, to)).filter(|leaves| **leaves >= now) {
            delay = delay.max(*leaves - now + Duration::from_micros(1));
        }
        if !delay.is_zero() {
            state.leaves.insert((from, to), now + delay);
        }
        let again = state.twice_per_mille > 0 && source.twice.chance(state.twice_per_mille);
        state.counts.doubled += u64::from(again);
        let again_after = again.then(|| Duration::from_millis(source.twice.below(200)));
        let reset = state.reset_per_mille > 0 && source.reset.chance(state.reset_per_mille) && !cut && !lost;
        state.counts.reset += u64::from(reset);
        Fate { lost: cut || lost, delay, again_after, reset }
    }

    /// Whether an answer is lost on its way.
    fn answer_lost(&self, from: NodeNo, to: NodeNo) -> bool {
        self.fate(from, to).lost
    }
}

/// One node's side of its links.
pub struct FaultyTransport {
    me: NodeNo,
    links: Arc<Links>,
    inner: Arc<dyn Transport>,
}

impl FaultyTransport {
    pub fn new(me: NodeNo, links: Arc<Links>, inner: Arc<dyn Transport>) -> Self {
        Self { me, links, inner }
    }
}

impl Transport for FaultyTransport {
    fn call(&self, to: NodeId, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let fate = self.links.fate(self.me, to);
        let given_up = Err(TransportError::Timeout { to, waited_ms: timeout.as_millis() as u64 });
        if fate.lost {
            return Box::pin(async move {
                time::sleep(timeout).await;
                given_up
            });
        }
        if let Some(after) = fate.again_after {
            let (inner, request) = (self.inner.clone(), request.clone());
            spawn(async move {
                time::sleep(fate.delay + after).await;
                drop(inner.call(to, request, timeout).await);
            });
        }
        let (links, me, inner) = (self.links.clone(), self.me, self.inner.clone());
        // Undelayed requests are handed on here and now: their order is the order of calls.
        let answer = if fate.delay.is_zero() { Ok(inner.call(to, request, timeout)) } else { Err(request) };
        Box::pin(async move {
            let started = Instant::now();
            let answer = match answer {
                Ok(answer) => answer.await,
                Err(request) => {
                    time::sleep(fate.delay).await;
                    inner.call(to, request, timeout).await
                }
            };
            if fate.reset {
                return Err(TransportError::Unreachable { to, reason: "the connection broke".to_owned() });
            }
            if links.answer_lost(to, me) {
                time::sleep(timeout.saturating_sub(started.elapsed())).await;
                return given_up;
            }
            answer
        })
    }

    fn set_peer(&self, node: NodeId, address: String) {
        self.inner.set_peer(node, address);
    }
}

//! Faults between nodes: wraps the shipped TCP transport and loses, delays and doubles what passes.

use crate::draw::{Draws, Source, Stream};
use crate::history::NodeNo;
use bytes::Bytes;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::time::{self, Instant};
use floss_raft::transport::{PeerRequest, Transport, TransportError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is wrong with the links at the moment. Directed: `(from, to)`.
#[derive(Clone, Debug, Default)]
pub struct LinkFaults {
    pub cut: BTreeSet<(NodeNo, NodeNo)>,
    pub loss_per_mille: u64,
    pub twice_per_mille: u64,
    pub delay_ms_max: u64,
}

/// All links of a cluster.
pub struct Network {
    draws: Draws,
    link_us: (u64, u64),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: LinkFaults,
    links: BTreeMap<(NodeNo, NodeNo), Arc<Link>>,
    lost: u64,
    doubled: u64,
}

struct Link {
    loss: Source,
    delay: Source,
    twice: Source,
}

/// Fate of one message.
struct Fate {
    lost: bool,
    doubled: bool,
    after: Duration,
}

impl Network {
    pub fn new(draws: Draws, link_us: (u64, u64), loss_per_mille: u64) -> Arc<Self> {
        let faults = LinkFaults { loss_per_mille, ..Default::default() };
        Arc::new(Self { draws, link_us, state: Mutex::new(State { faults, ..Default::default() }) })
    }

    /// The transport of `me`, with this network's faults.
    pub fn wrap(self: &Arc<Self>, me: NodeNo, inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(FaultyTransport { me, inner, network: self.clone() })
    }

    pub fn change(&self, change: impl FnOnce(&mut LinkFaults)) {
        change(&mut self.state().faults);
    }

    /// Messages lost and doubled so far.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.lost, state.doubled)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, from: NodeNo, to: NodeNo) -> Fate {
        let mut state = self.state();
        let entity = from << 8 | to;
        let fresh = || {
            let source = |stream| self.draws.source(stream, entity);
            Arc::new(Link { loss: source(Stream::LinkLoss), delay: source(Stream::LinkDelay), twice: source(Stream::LinkTwice) })
        };
        let link = state.links.entry((from, to)).or_insert_with(fresh).clone();
        let faults = &state.faults;
        let extra_ms = if faults.delay_ms_max > 0 { link.delay.below(faults.delay_ms_max + 1) } else { 0 };
        let after = Duration::from_micros(link.delay.between(self.link_us.0, self.link_us.1)) + Duration::from_millis(extra_ms);
        let lost = faults.cut.contains(&(from, to)) || link.loss.chance(faults.loss_per_mille);
        let doubled = link.twice.chance(faults.twice_per_mille);
        state.lost += u64::from(lost);
        state.doubled += u64::from(doubled);
        Fate { lost, doubled, after }
    }
}

struct FaultyTransport {
    me: NodeNo,
    inner: Arc<dyn Transport>,
    network: Arc<Network>,
}

impl Transport for FaultyTransport {
    fn call(&self, to: NodeNo, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let there = self.network.fate(self.me, to);
        let (me, inner, network) = (self.me, self.inner.clone(), self.network.clone());
        Box::pin(async move {
            let asked = Instant::now();
            let silence = |asked: Instant| async move {
                time::sleep(timeout.saturating_sub(asked.elapsed())).await;
                Err(TransportError::Timeout { to, waited_ms: timeout.as_millis() as u64 })
            };
            if there.lost {
                return silence(asked).await;
            }
            time::sleep(there.after).await;
            if there.doubled {
                let again = inner.call(to, request.clone(), timeout);
                floss_raft::env::runtime::spawn(async move { _ = again.await });
            }
            let answer = inner.call(to, request, timeout.saturating_sub(asked.elapsed())).await;
            let back = network.fate(to, me);
            if back.lost {
                return silence(asked).await;
            }
            time::sleep(back.after).await;
            answer
        })
    }

    fn set_peer(&self, node: NodeNo, address: String) {
        self.inner.set_peer(node, address);
    }
}

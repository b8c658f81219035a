//! Executes the faults of a plan: resolves targets, breaks, mends, and counts what had an effect.

use crate::cluster::Cluster;
use crate::disk::{DiskCounts, Names};
use crate::draw::{Draws, Stream};
use crate::history::{Event, NodeNo, Replica};
use crate::network::LinkCounts;
use crate::plan::{Fault, Plan, Target};
use crate::progress::{LOOK_EVERY, catches_up, goes_on};
use crate::recorder::Recorder;
use crate::workload::{Mode, Shared};
use floss_protocol::reached;
use floss_raft::env::runtime::time;
use floss_raft::env::runtime::time::Instant;
use madsim::net::NetSim;
use madsim::task::{JoinHandle, NodeId as SimNodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub struct Nemesis {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    recorder: Arc<Recorder>,
    clients: Vec<SimNodeId>,
    active: BTreeMap<usize, Active>,
    /// Actions that keep a node frozen.
    frozen: BTreeMap<NodeNo, BTreeSet<usize>>,
    /// How many actions clog a link between a client and a node.
    clogs: BTreeMap<(SimNodeId, SimNodeId), u32>,
}

struct Active {
    fault: Fault,
    nodes: Vec<NodeNo>,
    links: Vec<(NodeNo, NodeNo)>,
    clogs: Vec<(SimNodeId, SimNodeId)>,
    before: LinkCounts,
    disks_before: DiskCounts,
    unknown_before: u64,
    /// Waits for the moment to strike.
    lurking: Vec<JoinHandle<()>>,
}

impl Nemesis {
    pub fn new(cluster: Arc<Cluster>, shared: Arc<Shared>, clients: Vec<SimNodeId>) -> Self {
        let (plan, recorder) = (shared.plan.clone(), shared.recorder.clone());
        let (active, frozen, clogs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { cluster, shared, plan, recorder, clients, active, frozen, clogs }
    }

    /// Plays all actions, counted from `start`; ends at the heal, or when the run is red.
    pub async fn play(&mut self, start: Instant) {
        let plan = self.plan.clone();
        let mut moments = BTreeSet::new();
        for (index, action) in plan.actions.iter().enumerate() {
            moments.insert((action.at_ms, 1, index));
            let end = action.at_ms + action.lasts_ms.max(1);
            if end < plan.heal_at_ms {
                moments.insert((end, 0, index));
            }
        }
        moments.extend(plan.rests_ms.iter().map(|rest_ms| (*rest_ms, 2, usize::MAX)));
        moments.insert((plan.heal_at_ms, 3, usize::MAX));
        let mut rested = Duration::ZERO;
        for (at_ms, kind, index) in moments {
            let at = start + rested + Duration::from_millis(at_ms);
            while Instant::now() < at {
                if self.recorder.is_red() {
                    return;
                }
                time::sleep_until(at.min(Instant::now() + LOOK_EVERY)).await;
            }
            match kind {
                0 => self.end(index),
                1 => self.begin(index),
                2 => rested += self.rest().await,
                _ => self.heal(),
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let fault = self.plan.actions[index].fault;
        let nodes = self.resolve(fault);
        self.recorder.push(Event::FaultBegins { action: index, what: fault.to_string(), nodes: nodes.clone() });
        let disks_before = self.disk_counts(&nodes);
        let (before, unknown_before) = (self.cluster.links.counts(), self.recorder.unknown());
        let (links, clogs) = (Vec::new(), Vec::new());
        let lurking = Vec::new();
        let mut active = Active { fault, nodes, links, clogs, before, disks_before, unknown_before, lurking };
        let links = &self.cluster.links;
        match fault {
            Fault::Crash(_) | Fault::PowerLoss(_) | Fault::Stop(_) => self.take_down(index, &active),
            Fault::PowerAtRename { ms_max, .. } => {
                active.lurking = active.nodes.iter().map(|node| self.lurk(index, *node, ms_max)).collect();
            }
            Fault::Pause(_) => self.freeze(index, &active),
            Fault::Isolate(_) | Fault::Mute(_) | Fault::Deaf(_) | Fault::Split(_) => {
                active.links = self.links_of(fault, &active.nodes);
                active.links.iter().for_each(|(from, to)| links.cut(*from, *to));
            }
            Fault::CutClients(_) | Fault::LoseAnswers(_) => {
                active.clogs = self.clogs_of(fault, &active.nodes);
                for link in active.clogs.clone() {
                    self.clog(link);
                }
            }
            Fault::ResetClients => {
                if self.shared.reset_connections() > 0 {
                    self.recorder.effective(fault.kind());
                }
            }
            Fault::Loss { per_mille } => links.add_loss(per_mille as i64),
            Fault::Delay { ms_max } => links.add_delay(ms_max as i64),
            Fault::Twice { per_mille } => links.add_twice(per_mille as i64),
            Fault::ResetLinks { per_mille } => links.add_reset(per_mille as i64),
            Fault::SlowLink { ms_max, .. } => {
                active.nodes.iter().for_each(|node| links.add_slowness(*node, ms_max as i64));
            }
            Fault::SlowDisk { ms, .. } => {
                active.nodes.iter().for_each(|node| self.cluster.disk(*node).change_faults(|faults| faults.slow_ms = ms));
            }
            Fault::FailReads { per_mille, .. } => {
                self.fail_disk(&active, |faults| faults.failing_reads_per_mille = per_mille);
            }
            Fault::HandOver(bucket) => self.hand_over(bucket),
            Fault::Join(node) => {
                if self.cluster.join(node) {
                    self.recorder.effective(fault.kind());
                }
            }
            Fault::FailSync(_) => self.fail_disk(&active, |faults| faults.failing_syncs = 1),
            Fault::FullDisk(_) => self.fail_disk(&active, |faults| faults.full = true),
            Fault::Wipe(_) => {
                active.nodes.retain(|node| self.cluster.claim_disk(*node));
                for node in &active.nodes {
                    self.cluster.hold(*node, index);
                    self.frozen.remove(node);
                    self.cluster.wipe(*node);
                    self.recorder.effective(fault.kind());
                }
            }
            Fault::BitRot(_) | Fault::Misdirect(_) => {
                active.nodes.retain(|node| self.cluster.claim_disk(*node));
                self.rot(&active);
            }
            Fault::ClockStep { ms, .. } => {
                for node in &active.nodes {
                    self.cluster.step_clock(*node, ms);
                    if self.cluster.is_up(*node) {
                        self.recorder.effective(fault.kind());
                    }
                }
            }
        }
        self.active.insert(index, active);
    }

    fn end(&mut self, index: usize) {
        let Some(active) = self.active.remove(&index) else { return };
        self.recorder.push(Event::FaultEnds { action: index, what: active.fault.to_string() });
        let kind = active.fault.kind();
        let links = &self.cluster.links;
        let (before, after) = (active.before, links.counts());
        let mut effective = false;
        match active.fault {
            // Counted when they began.
            Fault::Crash(_) | Fault::PowerLoss(_) | Fault::Stop(_) | Fault::Wipe(_) => self.let_up(index, &active),
            Fault::PowerAtRename { .. } => {
                active.lurking.iter().for_each(JoinHandle::abort);
                self.let_up(index, &active);
            }
            Fault::Pause(_) => self.thaw(index, &active),
            Fault::Isolate(_) | Fault::Mute(_) | Fault::Deaf(_) | Fault::Split(_) => {
                active.links.iter().for_each(|(from, to)| links.mend(*from, *to));
                effective = after.cut > before.cut;
            }
            Fault::CutClients(_) | Fault::LoseAnswers(_) => {
                for link in &active.clogs {
                    self.unclog(*link);
                }
                // Appends that got no answer meanwhile.
                effective = self.recorder.unknown() > active.unknown_before;
            }
            // Counted when it happened, or when the leader has moved.
            Fault::ResetClients | Fault::Join(_) | Fault::HandOver(_) => {}
            Fault::ResetLinks { per_mille } => {
                links.add_reset(-(per_mille as i64));
                effective = after.reset > before.reset;
            }
            Fault::SlowLink { ms_max, .. } => {
                active.nodes.iter().for_each(|node| links.add_slowness(*node, -(ms_max as i64)));
                effective = after.slowed > before.slowed;
            }
            Fault::FailReads { .. } => {
                self.mend_disk(&active, |faults| std::mem::take(&mut faults.failing_reads_per_mille) > 0);
                effective = self.disk_counts(&active.nodes).failed_reads > active.disks_before.failed_reads;
            }
            Fault::Loss { per_mille } => {
                links.add_loss(-(per_mille as i64));
                effective = after.lost > before.lost;
            }
            Fault::Delay { ms_max } => {
                links.add_delay(-(ms_max as i64));
                effective = after.delayed > before.delayed;
            }
            Fault::Twice { per_mille } => {
                links.add_twice(-(per_mille as i64));
                effective = after.doubled > before.doubled;
            }
            Fault::SlowDisk { .. } => {
                effective = self.disk_counts(&active.nodes).slowed > active.disks_before.slowed;
                active.nodes.iter().for_each(|node| self.cluster.disk(*node).change_faults(|faults| faults.slow_ms = 0));
            }
            Fault::FailSync(_) => {
                effective = self.mend_disk(&active, |faults| std::mem::take(&mut faults.failing_syncs) == 0);
            }
            Fault::FullDisk(_) => {
                self.mend_disk(&active, |faults| std::mem::take(&mut faults.full));
                effective = self.disk_counts(&active.nodes).refused_full > active.disks_before.refused_full;
            }
            Fault::BitRot(_) | Fault::Misdirect(_) => {
                // Flipped bits were counted when they flipped.
                effective = self.disk_counts(&active.nodes).misdirected > active.disks_before.misdirected;
                active.nodes.iter().for_each(|node| self.cluster.end_disk_fault(*node));
                for node in active.nodes.iter().filter(|node| self.cluster.is_distrusted(**node)) {
                    // It starts again with an empty one.
                    self.cluster.crash(*node);
                    self.cluster.boot(*node);
                }
            }
            Fault::ClockStep { ms, .. } => active.nodes.iter().for_each(|node| self.cluster.step_clock(*node, -ms)),
        }
        if effective {
            self.recorder.effective(kind);
        }
    }

    /// Nothing is broken until everybody has made progress, however long that takes; how long it took.
    async fn rest(&mut self) -> Duration {
        let began = Instant::now();
        self.mend();
        self.recorder.push(Event::RestBegins);
        self.shared.set_mode(Mode::Busy);
        let goes_on = goes_on(&self.cluster, &self.shared).await;
        // As little is written from here on as the plan says.
        self.shared.set_mode(Mode::Planned);
        if goes_on && catches_up(&self.cluster, &self.shared).await {
            reached!("rested");
        }
        self.cluster.links.add_loss(self.plan.environment.loss_per_mille as i64);
        self.recorder.push(Event::RestEnds);
        began.elapsed()
    }

    fn heal(&mut self) {
        self.mend();
        self.recorder.push(Event::Healed);
    }

    /// Ends everything that is active; afterwards nothing is broken.
    fn mend(&mut self) {
        let active: Vec<usize> = self.active.keys().copied().collect();
        for index in active {
            self.end(index);
        }
        self.cluster.links.mend_all();
        self.cluster.nodes().into_iter().for_each(|node| self.cluster.boot(node));
    }

    /// Summed over nodes.
    fn disk_counts(&self, nodes: &[NodeNo]) -> DiskCounts {
        nodes.iter().map(|node| self.cluster.disk(*node).counts()).fold(DiskCounts::default(), |sum, one| DiskCounts {
            slowed: sum.slowed + one.slowed,
            refused_full: sum.refused_full + one.refused_full,
            misdirected: sum.misdirected + one.misdirected,
            failed_reads: sum.failed_reads + one.failed_reads,
            ..sum
        })
    }

    fn resolve(&self, mut fault: Fault) -> Vec<NodeNo> {
        fault.target_mut().map_or_else(Vec::new, |target| self.nodes_of(*target))
    }

    fn nodes_of(&self, target: Target) -> Vec<NodeNo> {
        match target {
            // A plan that was edited or shrunk may name one that is not there.
            Target::Node(node) => self.cluster.nodes().into_iter().filter(|known| *known == node).collect(),
            Target::All => self.cluster.nodes(),
            Target::Coordinator => vec![self.leader(|replica| replica.group == 0).unwrap_or(1)],
            Target::LeaderOf(bucket) => vec![self.leader(|replica| replica.bucket == Some(bucket)).unwrap_or(1)],
            Target::FollowerOf(bucket) => vec![self.followers(bucket).first().copied().unwrap_or(self.plan.nodes)],
            Target::LastFollowerOf(bucket) => vec![self.followers(bucket).last().copied().unwrap_or(self.plan.nodes)],
        }
    }

    fn followers(&self, bucket: u32) -> Vec<NodeNo> {
        let leader = self.leader(|replica| replica.bucket == Some(bucket));
        let holds = |replicas: &[Replica]| replicas.iter().any(|replica| replica.bucket == Some(bucket));
        let of = self.probes().into_iter().filter(|(node, replicas)| Some(*node) != leader && holds(replicas));
        of.map(|(node, _)| node).collect()
    }

    fn probes(&self) -> Vec<(NodeNo, Vec<Replica>)> {
        let probe = |event| match event {
            Event::Probe { node, replicas, .. } => Some((node, replicas)),
            _ => None,
        };
        self.cluster.probe().into_iter().filter_map(probe).collect()
    }

    /// Of those who believe to lead, the one with the highest term.
    fn leader(&self, is_it: impl Fn(&Replica) -> bool) -> Option<NodeNo> {
        let terms = self.probes().into_iter().flat_map(|(node, replicas)| {
            let leads: Vec<_> = replicas.iter().filter(|replica| is_it(replica) && replica.leader == Some(node)).collect();
            leads.iter().map(|replica| (replica.term, node)).collect::<Vec<_>>()
        });
        terms.max().map(|(_, node)| node)
    }

    /// Beside what else happens: it takes as long as an election.
    fn hand_over(&self, bucket: u32) {
        let leader = self.leader(|replica| replica.bucket == Some(bucket));
        let node = leader.and_then(|leader| self.cluster.node(leader));
        let (Some(leader), Some(node), Some(table_bucket)) = (leader, node, self.cluster.table_bucket(bucket)) else { return };
        let recorder = self.recorder.clone();
        madsim::task::spawn(async move {
            match node.hand_over(table_bucket).await {
                Ok(()) => recorder.effective("hand-over"),
                Err(error) => recorder.note(format!("n{leader} did not hand b{bucket} over: {error}")),
            }
        });
    }

    fn lurk(&self, index: usize, node: NodeNo, ms_max: u64) -> JoinHandle<()> {
        let (cluster, recorder) = (self.cluster.clone(), self.recorder.clone());
        let (kind, lasts_ms) = (self.plan.actions[index].fault.kind(), self.plan.actions[index].lasts_ms);
        let draws = Draws::new(self.plan.seed).source(Stream::PowerMoment, index as u64);
        madsim::task::spawn(async move {
            cluster.disk(node).moved(Duration::from_millis(lasts_ms / 2)).await;
            time::sleep(Duration::from_millis(draws.between(0, ms_max))).await;
            cluster.hold(node, index);
            let names = if draws.chance(500) { Names::Kept } else { Names::Drawn };
            cut_power(&cluster, &recorder, (node, names), kind);
            time::sleep(Duration::from_millis(draws.between(100, 2_000))).await;
            if cluster.release(node, index) {
                cluster.boot(node);
            }
        })
    }

    fn take_down(&mut self, index: usize, active: &Active) {
        for node in &active.nodes {
            self.cluster.hold(*node, index);
            self.frozen.remove(node);
            match active.fault {
                Fault::Stop(_) => {
                    if self.cluster.is_up(*node) {
                        self.cluster.ask_to_stop(*node);
                        self.recorder.effective("stop");
                    }
                }
                Fault::PowerLoss(_) => {
                    cut_power(&self.cluster, &self.recorder, (*node, Names::Drawn), active.fault.kind());
                }
                _ => {
                    if self.cluster.crash(*node) {
                        self.recorder.effective("crash");
                    }
                }
            }
        }
    }

    fn let_up(&mut self, index: usize, active: &Active) {
        for node in &active.nodes {
            if self.cluster.release(*node, index) {
                // Whoever did not end by itself until now is killed.
                if matches!(active.fault, Fault::Stop(_)) {
                    self.cluster.crash(*node);
                }
                self.cluster.boot(*node);
            }
        }
    }

    fn freeze(&mut self, index: usize, active: &Active) {
        for node in &active.nodes {
            if self.cluster.is_up(*node) {
                self.cluster.pause(*node);
                self.frozen.entry(*node).or_default().insert(index);
                self.recorder.effective("pause");
            }
        }
    }

    fn thaw(&mut self, index: usize, active: &Active) {
        for node in &active.nodes {
            // A node that died meanwhile is not frozen any more.
            let Some(holders) = self.frozen.get_mut(node) else { continue };
            holders.remove(&index);
            if holders.is_empty() {
                self.frozen.remove(node);
                self.cluster.resume(*node);
            }
        }
    }

    fn links_of(&self, fault: Fault, nodes: &[NodeNo]) -> Vec<(NodeNo, NodeNo)> {
        let all = self.cluster.nodes();
        let pairs = all.iter().flat_map(|from| all.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to);
        let is_cut = |from: &NodeNo, to: &NodeNo| match fault {
            Fault::Isolate(_) => nodes.contains(from) || nodes.contains(to),
            Fault::Mute(_) => nodes.contains(from),
            Fault::Deaf(_) => nodes.contains(to),
            Fault::Split(limit) => (*from < limit) != (*to < limit),
            _ => false,
        };
        pairs.filter(|(from, to)| is_cut(from, to)).collect()
    }

    fn clogs_of(&self, fault: Fault, nodes: &[NodeNo]) -> Vec<(SimNodeId, SimNodeId)> {
        let mut clogs = Vec::new();
        for node in nodes.iter().map(|node| self.cluster.sim_id(*node)) {
            for client in &self.clients {
                clogs.push((node, *client));
                if matches!(fault, Fault::CutClients(_)) {
                    clogs.push((*client, node));
                }
            }
        }
        clogs
    }

    fn clog(&mut self, link: (SimNodeId, SimNodeId)) {
        *self.clogs.entry(link).or_default() += 1;
        NetSim::current().clog_link(link.0, link.1);
    }

    fn unclog(&mut self, link: (SimNodeId, SimNodeId)) {
        let count = self.clogs.entry(link).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            NetSim::current().unclog_link(link.0, link.1);
        }
    }

    fn fail_disk(&self, active: &Active, change: impl Fn(&mut crate::disk::DiskFaults)) {
        for node in &active.nodes {
            self.cluster.begin_disk_fault(*node);
            self.cluster.disk(*node).change_faults(&change);
        }
    }

    fn rot(&self, active: &Active) {
        for node in &active.nodes {
            self.cluster.begin_disk_fault(*node);
            self.cluster.distrust_disk(*node);
            let disk = self.cluster.disk(*node);
            if matches!(active.fault, Fault::Misdirect(_)) {
                disk.change_faults(|faults| faults.misdirected_writes = 1);
            } else if let Some(place) = disk.rot() {
                self.recorder.note(format!("n{node} bits flipped in {place}"));
                self.recorder.effective(active.fault.kind());
            }
        }
    }

    /// True if `change` says of any disk that the fault had struck.
    fn mend_disk(&self, active: &Active, change: impl Fn(&mut crate::disk::DiskFaults) -> bool) -> bool {
        let mut struck = false;
        for node in &active.nodes {
            self.cluster.end_disk_fault(*node);
            self.cluster.disk(*node).change_faults(|faults| struck |= change(faults));
        }
        struck
    }
}

fn cut_power(cluster: &Cluster, recorder: &Recorder, (node, names): (NodeNo, Names), kind: &'static str) {
    let loss = cluster.lose_power(node, names);
    recorder.note(format!("n{node} lost power: {loss:?}"));
    if loss.lost_sectors + loss.lost_names > 0 {
        recorder.effective(kind);
    }
    if loss.torn_files > 0 {
        recorder.effective("torn-file");
    }
}

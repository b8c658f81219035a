//! One run of one plan: form, create, break, heal, judge. Everything it does is in the trace.

use crate::client::{Client, metadata};
use crate::cluster::{Cluster, address};
use crate::draw::Draws;
use crate::history::{Event, NodeNo};
use crate::oracle::{Oracles, Violation};
use crate::plan::{Action, Fault, Plan, Target};
use crate::workload::{self, Place, Recorder, Switch, now_ns};
use floss_protocol::ids::{BucketId, TableBucket, TableId};
use floss_protocol::rpc::{CreateTableRequest, PbTablePath};
use floss_raft::env::runtime::time::{self, Instant};
use madsim::net::NetSim;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After the heal, all must be well within this time.
const RECOVERY: Duration = Duration::from_secs(30);
const FORMING: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// What came out of a run.
pub struct Report {
    pub trace: String,
    pub violation: Option<Violation>,
    pub acked: u64,
    /// Faults that changed something, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    pub marks: Vec<&'static str>,
    pub virtual_seconds: f64,
}

struct Run {
    plan: Plan,
    draws: Draws,
    cluster: Cluster,
    recorder: Recorder,
    oracles: Oracles,
    trace: String,
    places: Vec<Place>,
    faults: BTreeMap<&'static str, u64>,
    /// Node -> when it comes back, for nodes that are down.
    returns: BTreeMap<NodeNo, u64>,
    /// Faults that still hold: when they end.
    active: Vec<(u64, Fault, BTreeSet<NodeNo>)>,
}

/// Runs a plan inside the simulator.
pub async fn run(plan: Plan) -> Report {
    let draws = Draws::new(plan.seed);
    let cluster = Cluster::new(&plan, draws);
    let run = Run {
        draws,
        cluster,
        recorder: Recorder::default(),
        oracles: Oracles::default(),
        trace: String::new(),
        places: Vec::new(),
        faults: BTreeMap::new(),
        returns: BTreeMap::new(),
        active: Vec::new(),
        plan,
    };
    let switch = Arc::new(Switch::default());
    run.go(switch).await
}

impl Run {
    async fn go(mut self, switch: Arc<Switch>) -> Report {
        let outcome = self.story(&switch).await;
        let violation = outcome.err();
        let acked = switch.acked.load(Ordering::SeqCst);
        Report {
            trace: self.trace,
            violation,
            acked,
            faults: self.faults,
            marks: floss_protocol::probe::marks(),
            virtual_seconds: now_ns() as f64 / 1e9,
        }
    }

    async fn story(&mut self, switch: &Arc<Switch>) -> Result<(), Violation> {
        self.event(Event::Start { nodes: self.plan.nodes, buckets: self.plan.buckets() })?;
        for node in self.cluster.nodes() {
            let booted = self.cluster.start(node);
            self.event(booted)?;
        }
        self.form().await?;
        self.start_workload(switch);
        let began = Instant::now();
        let mut actions = self.plan.actions.clone();
        actions.sort_by_key(|action| action.at_ms);
        let mut actions = actions.into_iter().peekable();
        let heal_at = self.plan.heal_at_ms;
        let mut probed = Instant::now();
        loop {
            let now_ms = began.elapsed().as_millis() as u64;
            if now_ms >= heal_at {
                break;
            }
            self.mend(now_ms)?;
            while let Some(action) = actions.next_if(|action| action.at_ms <= now_ms) {
                self.strike(&action, now_ms).await?;
            }
            if probed.elapsed() >= PROBE_EVERY {
                probed = Instant::now();
                self.probe()?;
            }
            self.drain()?;
            time::sleep(Duration::from_millis(20)).await;
        }
        self.heal()?;
        self.calm(switch).await?;
        self.judge().await
    }

    fn event(&mut self, event: Event) -> Result<(), Violation> {
        self.event_at(now_ns(), event)
    }

    fn event_at(&mut self, at_ns: u64, event: Event) -> Result<(), Violation> {
        _ = writeln!(self.trace, "{at_ns} {event}");
        self.oracles.observe(at_ns, &event)
    }

    fn drain(&mut self) -> Result<(), Violation> {
        for (at_ns, event) in self.recorder.drain() {
            self.event_at(at_ns, event)?;
        }
        Ok(())
    }

    fn probe(&mut self) -> Result<(), Violation> {
        for node in self.cluster.nodes() {
            if let Some(event) = self.cluster.probe(node) {
                self.event(event)?;
            }
        }
        Ok(())
    }

    /// Waits for the cluster and creates the tables.
    async fn form(&mut self) -> Result<(), Violation> {
        let began = Instant::now();
        for (table, buckets) in self.plan.workload.tables.clone().into_iter().enumerate() {
            let name = format!("t{table}");
            let mut created = false;
            while !created && began.elapsed() < FORMING {
                let made = self.create(&name, buckets).await;
                created = made.is_ok();
                if let Err(why) = made {
                    self.event(Event::Note { text: format!("create {name}: {why}") })?;
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
            self.event(Event::Progress { what: format!("table {name} is created within 30 s"), kept: created })?;
            let addresses: Vec<String> = self.cluster.nodes().map(address).collect();
            let Ok(answer) = metadata(&addresses, 0, &name).await else {
                return self.event(Event::Progress { what: format!("metadata of {name} is answered"), kept: false });
            };
            let table_id = answer.table_metadata.first().map_or(-1, |table| table.table_id);
            let first = self.plan.first_bucket(table);
            for bucket in 0..buckets {
                let number = first + bucket as u32;
                let id = TableBucket { table_id: TableId(table_id), partition_id: None, bucket: BucketId(bucket) };
                self.cluster.buckets.insert(id, number);
                self.places.push(Place { nodes: self.plan.nodes, table: name.clone(), table_id, bucket, number });
            }
        }
        Ok(())
    }

    async fn create(&self, name: &str, buckets: i32) -> Result<(), String> {
        let mut client = Client::connect(&address(1)).await?;
        let table_path = PbTablePath { database_name: "fluss".to_owned(), table_name: name.to_owned() };
        let table_json = crate::rows::table_json(buckets).into();
        client.call(&CreateTableRequest { table_path, table_json, ignore_if_exists: true }).await.map(drop)
    }

    fn start_workload(&self, switch: &Arc<Switch>) {
        let of_table = |table: usize| {
            let name = format!("t{table}");
            self.places.iter().filter(move |place| place.table == name).cloned()
        };
        for (number, writer) in self.plan.workload.writers.iter().enumerate() {
            for place in of_table(writer.table) {
                madsim::task::spawn(workload::write(
                    writer.clone(),
                    number as u32,
                    place,
                    self.draws,
                    self.recorder.clone(),
                    switch.clone(),
                ));
            }
        }
        for (number, reader) in self.plan.workload.readers.iter().enumerate() {
            for place in of_table(reader.table) {
                madsim::task::spawn(workload::read(
                    reader.clone(),
                    number as u32,
                    place,
                    self.draws,
                    self.recorder.clone(),
                    switch.clone(),
                ));
            }
        }
    }

    fn writer_tasks(&self) -> u64 {
        let buckets = |table: usize| self.plan.workload.tables[table] as u64;
        self.plan.workload.writers.iter().map(|writer| buckets(writer.table)).sum()
    }

    fn targets(&self, target: Target) -> BTreeSet<NodeNo> {
        match target {
            Target::Node(node) => BTreeSet::from([node]),
            Target::Coordinator => self.cluster.leader(None).into_iter().collect(),
            Target::LeaderOf(bucket) => self.cluster.leader(Some(bucket)).into_iter().collect(),
            Target::FollowerOf(bucket) => {
                let leader = self.cluster.leader(Some(bucket));
                self.cluster.nodes().filter(|node| Some(*node) != leader && self.cluster.is_up(*node)).take(1).collect()
            }
            Target::All => self.cluster.nodes().collect(),
        }
    }

    async fn strike(&mut self, action: &Action, now_ms: u64) -> Result<(), Violation> {
        let until = now_ms + action.lasts_ms;
        let fault = action.fault;
        let nodes = match fault {
            Fault::Crash(t)
            | Fault::PowerLoss(t)
            | Fault::Stop(t)
            | Fault::Pause(t)
            | Fault::Isolate(t)
            | Fault::Mute(t)
            | Fault::Deaf(t)
            | Fault::CutClients(t)
            | Fault::LoseAnswers(t)
            | Fault::SlowDisk { target: t, .. }
            | Fault::FailSync(t)
            | Fault::FullDisk(t) => self.targets(t),
            Fault::Split(_) | Fault::ResetClients | Fault::Loss { .. } | Fault::Delay { .. } | Fault::Twice { .. } => {
                BTreeSet::new()
            }
        };
        let up: BTreeSet<NodeNo> = nodes.into_iter().filter(|node| self.cluster.is_up(*node)).collect();
        let all: BTreeSet<NodeNo> = self.cluster.nodes().collect();
        let effective = match fault {
            Fault::Crash(_) | Fault::Stop(_) | Fault::PowerLoss(_) | Fault::FailSync(_) => {
                let power = matches!(fault, Fault::PowerLoss(_) | Fault::FailSync(_));
                for node in &up {
                    let down = self.cluster.kill(*node, power);
                    self.returns.insert(*node, until);
                    self.event(down)?;
                }
                !up.is_empty()
            }
            Fault::Pause(_) => {
                up.iter().for_each(|node| madsim::runtime::Handle::current().pause(self.cluster.machine(*node).id()));
                !up.is_empty()
            }
            Fault::CutClients(_) | Fault::LoseAnswers(_) | Fault::ResetClients => false,
            Fault::SlowDisk { ms, .. } => {
                up.iter().for_each(|node| self.cluster.disk(*node).change_faults(|faults| faults.slow_ms = ms));
                !up.is_empty()
            }
            Fault::FullDisk(_) => false,
            Fault::Isolate(_)
            | Fault::Mute(_)
            | Fault::Deaf(_)
            | Fault::Split(_)
            | Fault::Loss { .. }
            | Fault::Delay { .. }
            | Fault::Twice { .. } => true,
        };
        self.active.push((until, fault, up.clone()));
        self.set_links(&all);
        *self.faults.entry(fault.kind()).or_default() += u64::from(effective);
        self.event(Event::Note { text: format!("{fault} hits {up:?} until {until} ms, effective={effective}") })
    }

    /// Ends what is over and starts who is to return.
    fn mend(&mut self, now_ms: u64) -> Result<(), Violation> {
        let over: Vec<(u64, Fault, BTreeSet<NodeNo>)> =
            self.active.iter().filter(|(until, ..)| *until <= now_ms).cloned().collect();
        self.active.retain(|(until, ..)| *until > now_ms);
        for (_, fault, nodes) in over {
            self.end(fault, &nodes);
        }
        let all: BTreeSet<NodeNo> = self.cluster.nodes().collect();
        self.set_links(&all);
        let back: Vec<NodeNo> = self.returns.iter().filter(|(_, at)| **at <= now_ms).map(|(node, _)| *node).collect();
        for node in back {
            self.returns.remove(&node);
            let booted = self.cluster.start(node);
            self.event(booted)?;
        }
        Ok(())
    }

    fn end(&mut self, fault: Fault, nodes: &BTreeSet<NodeNo>) {
        for node in nodes {
            match fault {
                Fault::Pause(_) => madsim::runtime::Handle::current().resume(self.cluster.machine(*node).id()),
                Fault::SlowDisk { .. } => self.cluster.disk(*node).change_faults(|faults| faults.slow_ms = 0),
                _ => {}
            }
        }
    }

    /// The links as all active faults together want them.
    fn set_links(&self, all: &BTreeSet<NodeNo>) {
        let base = self.plan.environment.loss_per_mille;
        let active = self.active.clone();
        self.cluster.network.change(|links| {
            *links = crate::network::LinkFaults { loss_per_mille: base, ..Default::default() };
            for (_, fault, nodes) in &active {
                for (from, to) in
                    all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))).filter(|(from, to)| from != to)
                {
                    let cut = match fault {
                        Fault::Isolate(_) => nodes.contains(&from) != nodes.contains(&to),
                        Fault::Mute(_) => nodes.contains(&from),
                        Fault::Deaf(_) => nodes.contains(&to),
                        Fault::Split(below) => (from < *below) != (to < *below),
                        _ => false,
                    };
                    if cut {
                        links.cut.insert((from, to));
                    }
                }
                match fault {
                    Fault::Loss { per_mille } => links.loss_per_mille = links.loss_per_mille.max(*per_mille),
                    Fault::Delay { ms_max } => links.delay_ms_max = links.delay_ms_max.max(*ms_max),
                    Fault::Twice { per_mille } => links.twice_per_mille = links.twice_per_mille.max(*per_mille),
                    _ => {}
                }
            }
        });
    }

    fn heal(&mut self) -> Result<(), Violation> {
        self.mend(u64::MAX)?;
        self.cluster.network.change(|links| *links = Default::default());
        let net = NetSim::current();
        for node in self.cluster.nodes() {
            net.unclog_node(self.cluster.machine(node).id());
        }
        self.event(Event::Healed)
    }

    /// The workload goes on for a while, ends, and everybody catches up.
    async fn calm(&mut self, switch: &Arc<Switch>) -> Result<(), Violation> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(self.plan.calm_ms) {
            self.probe()?;
            self.drain()?;
            time::sleep(PROBE_EVERY).await;
        }
        switch.stop_writing.store(true, Ordering::SeqCst);
        let began = Instant::now();
        let writers = self.writer_tasks();
        let mut settled = false;
        while !settled && began.elapsed() < RECOVERY {
            time::sleep(Duration::from_millis(200)).await;
            self.probe()?;
            self.drain()?;
            settled = switch.drained.load(Ordering::SeqCst) == writers && self.caught_up();
        }
        let left = writers - switch.drained.load(Ordering::SeqCst);
        self.event(Event::Progress {
            what: format!("within 30 s after the heal all writers finish ({left} did not) and all replicas catch up"),
            kept: settled,
        })?;
        switch.stop_reading.store(true, Ordering::SeqCst);
        time::sleep(Duration::from_secs(4)).await;
        self.drain()
    }

    /// Every bucket is led and its replicas on all nodes end at the same watermark.
    fn caught_up(&self) -> bool {
        let mut ends: BTreeMap<u32, BTreeSet<i64>> = BTreeMap::new();
        for node in self.cluster.nodes() {
            let Some(Event::Probe { replicas, .. }) = self.cluster.probe(node) else { return false };
            for replica in replicas {
                if let Some(bucket) = replica.bucket {
                    ends.entry(bucket).or_default().insert(replica.high_watermark);
                }
            }
        }
        (0..self.plan.buckets())
            .all(|bucket| ends.get(&bucket).is_some_and(|ends| ends.len() == 1) && self.cluster.leader(Some(bucket)).is_some())
    }

    async fn judge(&mut self) -> Result<(), Violation> {
        for place in self.places.clone() {
            for node in self.cluster.nodes() {
                if let Some(dump) = self.cluster.dump(node, place.table_id, place.bucket).await {
                    self.event(dump)?;
                }
            }
        }
        self.oracles.finish(now_ns())
    }
}

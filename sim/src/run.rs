//! One run: a plan in, a verdict and a trace out. Must be the first and only run of its process.

use crate::client::Session;
use crate::cluster::Cluster;
use crate::draw::{Draws, Stream};
use crate::history::{BucketNo, Event, Expiry, Replica};
use crate::nemesis::Nemesis;
use crate::plan::Plan;
use crate::progress::{LOOK_EVERY, comes_to_rest, goes_on, makers_are_answered, replicas};
use crate::recorder::{Recorded, Recorder, now_ns};
use crate::workload::{Layout, Mode, Shared, create_tables, keyed_rows, run_looker, run_maker, run_reader, run_writer};
use floss_protocol::reached;
use floss_raft::env::runtime::time;
use floss_raft::env::runtime::time::Instant;
use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId as SimNodeId;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PROBE_EVERY: Duration = Duration::from_millis(500);
/// In a run that may have lost majorities: how long open batches may still end.
const REST_WAIT: Duration = Duration::from_secs(8);
/// A node looks at retention that much later than it means to.
const UPKEEP_GRACE_MS: u64 = 3_000;
const SETUP_WAIT: Duration = Duration::from_secs(90);
/// Virtual time after which a run is stuck, on top of what the plan says.
const EXTRA: Duration = Duration::from_secs(300);

pub struct Finished {
    pub recorded: Recorded,
    /// Marks of `reached!`, in order.
    pub marks: Vec<&'static str>,
    pub virtual_ns: u64,
}

/// Runs the plan on a thread of its own: what the caller's thread has drawn before must not matter.
pub fn run_plan(plan: Plan) -> Finished {
    let run = std::thread::Builder::new().name("simulation".into()).stack_size(16 << 20).spawn(move || run_here(Arc::new(plan)));
    run.expect("a thread starts").join().expect("panics of the run are caught inside")
}

fn run_here(plan: Arc<Plan>) -> Finished {
    let recorder = Arc::new(Recorder::default());
    let mut config = madsim::Config::default();
    let (from, to) = (plan.environment.link_us_min, plan.environment.link_us_max);
    config.net.send_latency = Duration::from_micros(from)..Duration::from_micros(to);
    let seed = Draws::new(plan.seed).bits(Stream::Runtime, 0, 0);
    let mut runtime = Runtime::with_seed_and_config(seed, config);
    runtime.set_time_limit(Duration::from_millis(plan.heal_at_ms + plan.calm_ms) + EXTRA);
    let end_ns = Arc::new(Mutex::new(0));
    let panicked = Arc::new(Mutex::new(None));
    remember_panics(panicked.clone());
    let (recorder_, end_ns_) = (recorder.clone(), end_ns.clone());
    let whole = AssertUnwindSafe(|| {
        runtime.block_on(async move {
            simulate(plan, recorder_).await;
            *end_ns_.lock().expect("no panic holds it") = now_ns();
        });
    });
    if std::panic::catch_unwind(whole).is_err() {
        let (at_ns, what) = panicked.lock().expect("no panic holds it").take().unwrap_or((0, "panic".to_owned()));
        recorder.violate("panic", at_ns, what);
        *end_ns.lock().expect("no panic holds it") = at_ns;
        // Its tasks would run their destructors outside of the simulation.
        std::mem::forget(runtime);
    }
    let virtual_ns = *end_ns.lock().expect("no panic holds it");
    Finished { recorded: recorder.finish(virtual_ns), marks: floss_protocol::probe::marks(), virtual_ns }
}

/// The first panic and its virtual time.
fn remember_panics(first: Arc<Mutex<Option<(u64, String)>>>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("panic").to_owned();
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        first.lock().expect("no panic holds it").get_or_insert((now_ns(), format!("{message}{place}")));
        before(info);
    }));
}

async fn simulate(plan: Arc<Plan>, recorder: Arc<Recorder>) {
    let handle = Handle::current();
    let cluster = Arc::new(Cluster::new(handle.clone(), plan.clone(), recorder.clone()));
    let keyed = (0..plan.buckets()).filter_map(|bucket| Some((bucket, keyed_rows::rules(plan.keyed_of(bucket)?))));
    let (keyed, numbered) = (keyed.collect(), numbered(&plan));
    recorder.push(Event::Start { nodes: plan.nodes, buckets: plan.buckets(), keyed, numbered, expiring: expiring(&plan) });
    cluster.nodes().into_iter().for_each(|node| cluster.boot(node));
    let Some(table_ids) = set_up(&handle, &cluster, &plan, &recorder).await else { return };
    recorder.note(format!("tables {table_ids:?}"));
    cluster.set_table_ids(table_ids.clone());
    let shared = Arc::new(Shared::new(plan.clone(), recorder.clone(), table_ids));
    if plan.environment.unrecoverable {
        recorder.push(Event::Unrecoverable);
    }
    let clients = start_clients(&handle, &cluster, &shared);
    let start = Instant::now();
    madsim::task::spawn(probe_for_ever(cluster.clone(), shared.clone()));
    madsim::task::spawn(supervise_for_ever(cluster.clone(), shared.clone()));
    Nemesis::new(cluster.clone(), shared.clone(), clients).play(start).await;
    if !recorder.is_red() {
        calm_down(&cluster, &shared).await;
    }
    shared.set_mode(Mode::Stop);
}

/// Table and column of each bucket whose rows the server numbers.
fn numbered(plan: &Plan) -> BTreeMap<BucketNo, (usize, usize)> {
    let of = |bucket| {
        let (table, _) = plan.bucket(bucket)?;
        Some((bucket, (table, Layout::of(plan.keyed(table)?).numbered?)))
    };
    (0..plan.buckets()).filter_map(of).collect()
}

/// What retention owes where entries expire.
fn expiring(plan: &Plan) -> BTreeMap<BucketNo, Expiry> {
    let ttl_ms = plan.workload.log_ttl_ms;
    let slack_ms = plan.clock_slack_ms();
    // Nobody looks after old entries within a shorter calm.
    let looked = plan.calm_ms >= plan.environment.upkeep_ms + UPKEEP_GRACE_MS && !plan.environment.unrecoverable;
    let gone_ms = if looked { ttl_ms + slack_ms + plan.calm_ms + UPKEEP_GRACE_MS } else { u64::MAX };
    let expiry = Expiry { kept_ms: ttl_ms.saturating_sub(slack_ms), gone_ms };
    plan.tables()
        .filter(|table| plan.expires(*table))
        .flat_map(|table| plan.buckets_of(table))
        .map(|bucket| (bucket, expiry))
        .collect()
}

async fn set_up(handle: &Handle, cluster: &Cluster, plan: &Arc<Plan>, recorder: &Recorder) -> Option<Vec<i64>> {
    let admin = client_node(handle, "admin", "10.0.2.1");
    let source = Draws::new(plan.seed).source(Stream::Client, u64::from(u32::MAX));
    let session = Session::new(crate::workload::table_name(0), cluster.client_addresses(), source);
    let plan = plan.clone();
    let created = handle.get_node(admin).expect("just made").spawn(async move { create_tables(&session, &plan).await });
    let created = time::timeout(SETUP_WAIT, created).await;
    let error = match created {
        Ok(Ok(Ok(ids))) => return Some(ids),
        Ok(Ok(Err(error))) => error,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing within {SETUP_WAIT:?}"),
    };
    recorder.push(Event::Progress { what: format!("the tables cannot be created: {error}"), kept: false });
    None
}

fn client_node(handle: &Handle, name: &str, address: &str) -> SimNodeId {
    handle.create_node().name(name).ip(address.parse().expect("an address")).build().id()
}

/// Each client is a process on a machine of its own.
fn start_clients(handle: &Handle, cluster: &Cluster, shared: &Arc<Shared>) -> Vec<SimNodeId> {
    let mut clients = Vec::new();
    for number in 0..shared.plan.writer_tables().len() as u32 {
        let client = client_node(handle, &format!("w{number}"), &format!("10.0.1.{}", number + 1));
        let writer = run_writer(shared.clone(), number, cluster.client_addresses());
        handle.get_node(client).expect("just made").spawn(writer);
        clients.push(client);
    }
    for number in 0..shared.plan.workload.readers.len() as u32 {
        let client = client_node(handle, &format!("r{number}"), &format!("10.0.1.{}", number + 101));
        let reader = run_reader(shared.clone(), number, cluster.client_addresses());
        handle.get_node(client).expect("just made").spawn(reader);
        clients.push(client);
    }
    for number in 0..shared.plan.workload.makers.len() as u32 {
        let client = client_node(handle, &format!("m{number}"), &format!("10.0.1.{}", number + 241));
        let maker = run_maker(shared.clone(), number, cluster.client_addresses());
        handle.get_node(client).expect("just made").spawn(maker);
        clients.push(client);
    }
    for number in 0..shared.plan.workload.lookers.len() as u32 {
        let client = client_node(handle, &format!("l{number}"), &format!("10.0.1.{}", number + 201));
        let looker = run_looker(shared.clone(), number, cluster.client_addresses());
        handle.get_node(client).expect("just made").spawn(looker);
        clients.push(client);
    }
    clients
}

async fn probe_for_ever(cluster: Arc<Cluster>, shared: Arc<Shared>) {
    while !shared.stopped() {
        time::sleep(PROBE_EVERY).await;
        let events = cluster.probe().into_iter().chain(cluster.probe_rows());
        events.for_each(|event| shared.recorder.push(event));
    }
}

async fn supervise_for_ever(cluster: Arc<Cluster>, shared: Arc<Shared>) {
    while !shared.stopped() {
        time::sleep(LOOK_EVERY).await;
        cluster.supervise().await;
    }
}

/// The second phase: nothing is broken any more; progress, then the final checks.
async fn calm_down(cluster: &Cluster, shared: &Shared) {
    let (plan, recorder) = (&shared.plan, &shared.recorder);
    let healed = Instant::now();
    shared.set_mode(Mode::Busy);
    let calm_end = healed + Duration::from_millis(plan.calm_ms);
    if plan.environment.unrecoverable {
        look_at_what_is_left(cluster, shared, calm_end).await;
        return;
    }
    if !goes_on(cluster, shared).await || !makers_are_answered(cluster, shared).await {
        return;
    }
    wait_until(calm_end, recorder).await;
    shared.set_mode(Mode::Finish);
    if comes_to_rest(cluster, shared).await {
        dump(cluster, recorder, replicas(cluster)).await;
    }
}

/// The last probes, then everything that these replicas hold.
async fn dump(cluster: &Cluster, recorder: &Recorder, replicas: Vec<(u64, Replica)>) {
    cluster.probe().into_iter().chain(cluster.probe_rows()).for_each(|event| recorder.push(event));
    for (node, replica) in replicas {
        if let (Some(bucket), false) = (replica.bucket, recorder.is_red()) {
            recorder.push(cluster.dump(node, bucket, &replica).await);
        }
    }
}

/// Majorities may be gone, so nothing is demanded but truth: whatever is led and has come to rest must hold what was acked.
async fn look_at_what_is_left(cluster: &Cluster, shared: &Shared, calm_end: Instant) {
    let recorder = &shared.recorder;
    wait_until(calm_end, recorder).await;
    shared.set_mode(Mode::Finish);
    wait_until(Instant::now() + REST_WAIT, recorder).await;
    let all = replicas(cluster);
    let leads = |(node, replica): &&(u64, Replica)| replica.leader == Some(*node) && replica.ready;
    let led: BTreeMap<u64, u64> = all.iter().filter(leads).map(|(_, replica)| (replica.group, replica.pointers[2])).collect();
    let stranded = (0..shared.plan.buckets())
        .filter(|bucket| !all.iter().any(|(_, replica)| replica.bucket == Some(*bucket) && led.contains_key(&replica.group)))
        .count();
    recorder.note(format!("{stranded} buckets have no leader any more"));
    if stranded > 0 {
        reached!("bucket_stranded");
    }
    let at_rest =
        |replica: &Replica| replica.pointers[2] == replica.pointers[4] && led.get(&replica.group) == Some(&replica.pointers[2]);
    let at_rest: Vec<_> = all.into_iter().filter(|(_, replica)| at_rest(replica)).collect();
    dump(cluster, recorder, at_rest).await;
}

async fn wait_until(end: Instant, recorder: &Recorder) {
    while Instant::now() < end && !recorder.is_red() {
        time::sleep(LOOK_EVERY).await;
    }
}

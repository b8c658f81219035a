//! A plan from a seed. Each probability is itself drawn per seed (swarm): runs differ in kind, not only in detail.

use super::keyed::{add_keyed, add_kinds};
use super::{Action, Environment, Fault, Maker, Plan, Reader, Target, Workload, Writer};
use crate::disk::Latency;
use crate::draw::{Draws, Source, Stream};

/// A plan of about `seconds` virtual seconds: faults for most of the time, then calm.
pub fn generate(seed: u64, seconds: u64) -> Plan {
    let draws = Draws::new(seed);
    let swarm = draws.source(Stream::Swarm, 0);
    let nodes = *swarm.pick(&[3, 3, 3, 4, 5]);
    let total_ms = seconds.max(5) * 1000;
    // Elections, catch-up and the last acks need some seconds of calm.
    let calm_ms = (total_ms / 5).clamp(2_000, 8_000);
    let heal_at_ms = total_ms - calm_ms;
    let workload = workload(&swarm);
    let environment = environment(&swarm, nodes);
    let mut plan =
        Plan { seed, nodes, spares: 0, heal_at_ms, rests_ms: Vec::new(), calm_ms, environment, workload, actions: Vec::new() };
    // A stream of its own: what log tables see does not depend on it.
    let keyed_swarm = draws.source(Stream::KeyedSwarm, 0);
    add_keyed(&mut plan.workload, &keyed_swarm);
    add_kinds(&mut plan.workload, &draws.source(Stream::KeyedKinds, 0));
    plan.environment.rows_lost_per_mille = *keyed_swarm.pick(&[0, 0, 100, 500]);
    let recipes = Recipes::new(&swarm, &plan);
    plan.actions = recipes.actions(&draws.source(Stream::Faults, 0), heal_at_ms);
    add_rare(&mut plan, &draws.source(Stream::LateSwarm, 0));
    plan
}

/// What happens once in a run, or in few runs: a node that joins, majorities that lose their disks; and what joined the draws last.
fn add_rare(plan: &mut Plan, late: &Source) {
    let within = |late: &Source| late.between(2_000.min(plan.heal_at_ms / 2), plan.heal_at_ms - 1);
    let mut rare = Vec::new();
    if late.chance(400) {
        plan.spares = 1;
        rare.push(Action { at_ms: within(late), lasts_ms: 0, fault: Fault::Join(plan.nodes + 1) });
    }
    if late.chance(60) {
        plan.environment.unrecoverable = true;
        let first_ms = late.between(plan.heal_at_ms / 2, plan.heal_at_ms - 1);
        let losses = late.between(2, plan.nodes);
        for node in 1..=losses {
            let fault = if late.chance(700) { Fault::Wipe(Target::Node(node)) } else { Fault::BitRot(Target::Node(node)) };
            rare.push(Action { at_ms: first_ms + late.below(1_000), lasts_ms: late.between(200, 3_000), fault });
        }
    }
    plan.actions.extend(rare.into_iter().filter(|action| action.at_ms < plan.heal_at_ms));
    plan.actions.sort_by_key(|action| action.at_ms);
    for _ in 0..*late.pick(&[0, 0, 1, 2]) {
        let keyed = !plan.workload.keyed.is_empty() && late.chance(500);
        plan.workload.makers.push(Maker {
            pause_ms: *late.pick(&[200, 1_000, 3_000]),
            buckets: *late.pick(&[1, 1, 2]),
            like: keyed.then_some(plan.workload.tables.len()),
            names_max: *late.pick(&[3, 8]),
        });
    }
    // Less than an entry, some entries, as shipped.
    plan.environment.journal_read_bytes = *late.pick(&[64, 4 << 10, 64 << 10, 4 << 20]);
    // Where changelogs lie between the logs, no file of the journal is ever empty.
    if late.chance(if plan.workload.keyed.is_empty() { 800 } else { 200 }) {
        plan.workload.log_ttl_ms = *late.pick(&[2_000, 5_000, 15_000]);
    }
    let rests = if plan.environment.unrecoverable { 0 } else { *late.pick(&[0, 1, 2, 4]) };
    plan.rests_ms = (0..rests).map(|_| within(late)).collect();
    plan.rests_ms.sort_unstable();
}

fn environment(swarm: &Source, nodes: u64) -> Environment {
    let sync_ms_max = *swarm.pick(&[1, 2, 5, 20]);
    let link_us_max = *swarm.pick(&[1_000, 3_000, 10_000, 30_000]);
    let skew_max = *swarm.pick(&[0, 10, 1_000, 60_000]);
    let drift_max = *swarm.pick(&[0, 100, 50_000]);
    let skew = || swarm.below(2 * skew_max + 1) as i64 - skew_max as i64;
    Environment {
        disk: Latency { sync_ms_min: 0, sync_ms_max, read_miss_per_mille: *swarm.pick(&[0, 10, 200]) },
        link_us_min: 200,
        link_us_max,
        loss_per_mille: *swarm.pick(&[0, 0, 0, 1, 10]),
        clock_skew_ms: (0..nodes).map(|_| skew()).collect(),
        clock_drift_ppm: (0..nodes).map(|_| swarm.below(2 * drift_max + 1) as i64 - drift_max as i64).collect(),
        // Small, so that files roll and are recycled within a run.
        journal_file_bytes: *swarm.pick(&[64, 128, 256, 1024]) << 10,
        journal_cache_bytes: *swarm.pick(&[16, 256, 4096]) << 10,
        journal_read_bytes: 4 << 20,
        sleep_after_ms: *swarm.pick(&[1_000, 2_000, 5_000]),
        // Few entries, so that a replica that was away for some seconds needs a snapshot.
        tail_entries: *swarm.pick(&[0, 2, 10, 64]),
        compact_entries: *swarm.pick(&[5, 20, 50, 200]),
        upkeep_ms: *swarm.pick(&[300, 1_000, 3_000]),
        rows_lost_per_mille: 0,
        unrecoverable: false,
    }
}

fn workload(swarm: &Source) -> Workload {
    let tables: Vec<i32> = swarm.pick(&[vec![1], vec![2], vec![1, 1], vec![3], vec![1, 2]]).clone();
    let table = || swarm.below(tables.len() as u64) as usize;
    let count = swarm.between(2, 3) as usize;
    let writers = (0..count).map(|at| {
        let idle = swarm.chance(500);
        Writer {
            table: if at < tables.len() { at } else { table() },
            pause_ms: *swarm.pick(&[40, 100, 200, 400]),
            records_max: *swarm.pick(&[1, 3, 10]),
            payload_bytes_max: *swarm.pick(&[8, 100, 2_000]),
            busy_ms: if idle { swarm.between(500, 3_000) } else { 0 },
            idle_ms: if idle { swarm.between(1_000, 8_000) } else { 0 },
            spans_ms: Vec::new(),
        }
    });
    let writers = writers.collect();
    let count = swarm.between(1, 3) as usize;
    let readers = (0..count).map(|at| Reader {
        table: if at < tables.len() { at } else { table() },
        projection: swarm.pick(&[None, Some(vec![0, 1, 2]), Some(vec![0, 1, 2, 3]), Some(vec![0, 1, 2, 4])]).clone(),
        max_wait_ms: *swarm.pick(&[0, 100, 500]),
        max_bytes: *swarm.pick(&[2_000, 100_000, 1 << 20]),
        rescan_ms: *swarm.pick(&[0, 5_000, 15_000]),
    });
    let readers = readers.collect();
    Workload { tables, writers, readers, ..Workload::default() }
}

/// Short stories that are likely to hurt, and how often each is told.
struct Recipes {
    weights: Vec<(Recipe, u64)>,
    nodes: u64,
    /// Those with primary keys are the last ones.
    buckets: u64,
    keyed_buckets: u64,
    pause_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum Recipe {
    CrashOne,
    CrashLeader,
    PowerOne,
    PowerLeader,
    PowerAll,
    /// Power is lost just when files get other names.
    PowerAtRename,
    CrashAll,
    StopOne,
    PauseLeader,
    IsolateLeader,
    OneWay,
    Split,
    ClientsCut,
    AnswersLost,
    Resets,
    BadLinks,
    SlowDisk,
    FailedSync,
    FullDisk,
    /// A disk is lost; the machine comes back with an empty one.
    Wiped,
    /// Of the two that have the last entries, one loses its disk and one dies; the third has been away.
    WipedThenLead,
    /// A disk lies; it is replaced.
    RottenDisk,
    ClockJumps,
    /// A follower misses much, comes back, and soon has to lead.
    LagThenLead,
    /// The leader's last entries reach nobody, then it dies.
    LoneLeaderDies,
    /// Power is lost while much is written and not synced.
    SlowThenPower,
    /// Somebody votes on a slow disk, loses power, and is asked again in the same term.
    VoteForgotten,
    /// A leader is frozen for so long that its clients write elsewhere, and thaws with questions in its sockets.
    LeaderFrozen,
    Misdirected,
    FailReads,
    SlowLink,
    ResetLinks,
    /// Leaders are asked to hand over, in good times and bad.
    HandOver,
    /// What somebody has missed is on its way to a slow disk when power goes there, or when the leader dies that sent it.
    SlowCatchUp,
    /// A leader comes back with an empty disk while others still have what it said before.
    LeaderReborn,
    /// The leader of the catalog cannot read what somebody has missed.
    CatalogUnreadable,
}

/// How seldom these have an effect: a full disk hurts only who needs more room just then.
fn emphasis(recipe: Recipe) -> u64 {
    match recipe {
        Recipe::PowerAtRename | Recipe::LeaderReborn => 4,
        Recipe::SlowThenPower | Recipe::BadLinks => 3,
        Recipe::RottenDisk | Recipe::Misdirected => 3,
        Recipe::PowerOne | Recipe::PowerLeader | Recipe::PowerAll | Recipe::FullDisk | Recipe::FailReads => 2,
        Recipe::OneWay | Recipe::SlowLink | Recipe::ResetLinks | Recipe::ClientsCut | Recipe::HandOver => 2,
        _ => 1,
    }
}

const RECIPES: [Recipe; 36] = [
    Recipe::CrashOne,
    Recipe::CrashLeader,
    Recipe::PowerOne,
    Recipe::PowerLeader,
    Recipe::PowerAll,
    Recipe::PowerAtRename,
    Recipe::CrashAll,
    Recipe::StopOne,
    Recipe::PauseLeader,
    Recipe::IsolateLeader,
    Recipe::OneWay,
    Recipe::Split,
    Recipe::ClientsCut,
    Recipe::AnswersLost,
    Recipe::Resets,
    Recipe::BadLinks,
    Recipe::SlowDisk,
    Recipe::FailedSync,
    Recipe::FullDisk,
    Recipe::Wiped,
    Recipe::WipedThenLead,
    Recipe::RottenDisk,
    Recipe::ClockJumps,
    Recipe::LagThenLead,
    Recipe::LoneLeaderDies,
    Recipe::SlowThenPower,
    Recipe::VoteForgotten,
    Recipe::LeaderFrozen,
    Recipe::Misdirected,
    Recipe::FailReads,
    Recipe::SlowLink,
    Recipe::ResetLinks,
    Recipe::HandOver,
    Recipe::SlowCatchUp,
    Recipe::LeaderReborn,
    Recipe::CatalogUnreadable,
];

impl Recipes {
    fn new(swarm: &Source, plan: &Plan) -> Self {
        let (nodes, buckets) = (plan.nodes, u64::from(plan.buckets()));
        let keyed_buckets = plan.workload.keyed.iter().map(|table| table.buckets as u64).sum();
        let weights = RECIPES.iter().map(|recipe| (*recipe, emphasis(*recipe) * swarm.pick(&[0, 1, 2, 4]))).collect();
        Self { weights, nodes, buckets, keyed_buckets, pause_ms: *swarm.pick(&[100, 300, 800]) }
    }

    fn actions(&self, draws: &Source, heal_at_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut at_ms = draws.between(500, 2_000);
        while at_ms < heal_at_ms {
            let recipe = self.pick(draws);
            let story = self.story(recipe, draws);
            let end = story.iter().map(|(after, lasts, _)| after + lasts).max().unwrap_or(0);
            actions.extend(story.into_iter().map(|(after, lasts_ms, fault)| Action { at_ms: at_ms + after, lasts_ms, fault }));
            // Mostly one after the other, sometimes on top of each other.
            at_ms += if draws.chance(450) { draws.below(end + 1) } else { end };
            at_ms += draws.below(2 * self.pause_ms);
        }
        actions.retain(|action| action.at_ms < heal_at_ms);
        actions.sort_by_key(|action| action.at_ms);
        actions
    }

    fn pick(&self, draws: &Source) -> Recipe {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut left = draws.below(total.max(1));
        for (recipe, weight) in &self.weights {
            if left < *weight {
                return *recipe;
            }
            left -= weight;
        }
        Recipe::CrashLeader
    }

    /// (after, lasts, fault), in ms from the start of the story.
    fn story(&self, recipe: Recipe, draws: &Source) -> Vec<(u64, u64, Fault)> {
        let node = || Target::Node(draws.between(1, self.nodes));
        let bucket = draws.below(self.buckets) as u32;
        let leader = if draws.chance(200) { Target::Coordinator } else { Target::LeaderOf(bucket) };
        let follower = Target::FollowerOf(bucket);
        let any = if draws.chance(500) { node() } else { leader };
        let short = draws.between(50, 800);
        let long = draws.between(300, 4_000);
        match recipe {
            Recipe::CrashOne => vec![(0, long, Fault::Crash(node()))],
            Recipe::CrashLeader => vec![(0, draws.between(10, 3_000), Fault::Crash(leader))],
            Recipe::PowerOne => vec![(0, long, Fault::PowerLoss(node()))],
            Recipe::PowerLeader => vec![(0, long, Fault::PowerLoss(leader))],
            Recipe::PowerAll => vec![(0, short, Fault::PowerLoss(Target::All))],
            Recipe::PowerAtRename => {
                let until = draws.between(3_000, 12_000);
                let power = Fault::PowerAtRename { target: any, ms_max: *draws.pick(&[1, 5, 50]) };
                match draws.chance(500) {
                    true => vec![(0, until, power)],
                    // Much waits for the disk then.
                    false => vec![(0, until, Fault::SlowDisk { target: any, ms: draws.between(5, 60) }), (0, until, power)],
                }
            }
            Recipe::CrashAll => vec![(0, short, Fault::Crash(Target::All)), (short + 300, short, Fault::PowerLoss(Target::All))],
            Recipe::StopOne => vec![(0, long, Fault::Stop(any))],
            Recipe::PauseLeader => vec![(0, draws.between(100, 4_000), Fault::Pause(leader))],
            Recipe::LeaderFrozen => {
                let bucket = match self.keyed_buckets {
                    0 => bucket,
                    keyed => (self.buckets - 1 - draws.below(keyed)) as u32,
                };
                let leader = Target::LeaderOf(bucket);
                if draws.chance(500) {
                    // It asks whether it still leads, and the answers wait for it while another one is elected.
                    let late = Fault::SlowLink { target: Target::All, ms_max: draws.between(300, 1_500) };
                    return vec![(0, 300, late), (280, draws.between(1_500, 3_500), Fault::Pause(leader))];
                }
                vec![(0, draws.between(3_500, 6_500), Fault::Pause(leader))]
            }
            Recipe::IsolateLeader => vec![(0, long, Fault::Isolate(leader))],
            Recipe::OneWay => vec![(0, long, if draws.chance(500) { Fault::Mute(any) } else { Fault::Deaf(any) })],
            Recipe::Split => vec![(0, long, Fault::Split(draws.between(2, self.nodes)))],
            Recipe::ClientsCut => vec![(0, long, Fault::CutClients(any))],
            Recipe::AnswersLost => vec![(0, short, Fault::LoseAnswers(leader)), (short / 2, long, Fault::Crash(leader))],
            Recipe::Resets => (0..4).map(|at| (at * 150, 0, Fault::ResetClients)).collect(),
            Recipe::BadLinks => vec![(0, long, self.bad_links(draws)), (long / 2, long, self.bad_links(draws))],
            Recipe::SlowDisk => vec![(0, long, Fault::SlowDisk { target: any, ms: draws.between(5, 300) })],
            Recipe::FailedSync => vec![(0, short, Fault::FailSync(any))],
            Recipe::FullDisk => vec![(0, draws.between(2_000, 7_000), Fault::FullDisk(any))],
            Recipe::FailReads => {
                vec![(0, long, Fault::FailReads { target: any, per_mille: draws.between(20, 500) })]
            }
            Recipe::SlowLink => vec![(0, long, Fault::SlowLink { target: any, ms_max: draws.between(20, 1_500) })],
            Recipe::ResetLinks => vec![(0, long, Fault::ResetLinks { per_mille: draws.between(20, 400) })],
            Recipe::HandOver => {
                let again = draws.between(200, 2_000);
                let then = if draws.chance(500) { Fault::HandOver(bucket) } else { Fault::Crash(leader) };
                if draws.chance(500) {
                    // Its offer is lost, and it is back before anybody misses it.
                    let mute = Fault::Mute(Target::LeaderOf(bucket));
                    return vec![(0, draws.between(50, 600), mute), (20, 0, Fault::HandOver(bucket))];
                }
                vec![(0, 0, Fault::HandOver(bucket)), (again, draws.between(10, 2_000), then)]
            }
            Recipe::SlowCatchUp => {
                let (behind, away) = (node(), draws.between(2_000, 8_000));
                let slow = Fault::SlowDisk { target: behind, ms: draws.between(50, 500) };
                let end = match draws.below(4) {
                    0 | 1 => Fault::PowerLoss(behind),
                    2 => Fault::Crash(leader),
                    _ => {
                        // Pieces of it come twice, and after newer ones.
                        let (twice, delay) = (Fault::Twice { per_mille: 500 }, Fault::Delay { ms_max: draws.between(10, 400) });
                        return vec![(0, away, Fault::Isolate(behind)), (away - 50, 2_000, twice), (away - 50, 2_000, delay)];
                    }
                };
                vec![(0, away, Fault::Isolate(behind)), (away - 50, 1_500, slow), (away + draws.between(100, 1_400), short, end)]
            }
            Recipe::LeaderReborn => {
                let leader = Target::LeaderOf(bucket);
                let (late, gone) = match draws.below(6) {
                    // The one that dies is another, elected in its place.
                    0 | 1 => (Fault::Pause(leader), draws.between(1_500, 3_000)),
                    2 => (Fault::Pause(follower), draws.between(100, 2_000)),
                    3 => (Fault::SlowDisk { target: Target::All, ms: draws.between(200, 1_000) }, draws.between(100, 2_000)),
                    _ => (Fault::SlowDisk { target: follower, ms: draws.between(500, 2_000) }, draws.between(500, 3_000)),
                };
                vec![(0, gone + draws.between(300, 3_000), late), (gone, draws.between(10, 500), Fault::Wipe(leader))]
            }
            Recipe::CatalogUnreadable => {
                let away = draws.between(1_000, 6_000);
                let unreadable = Fault::FailReads { target: Target::Coordinator, per_mille: draws.between(100, 900) };
                vec![(0, away, Fault::Isolate(node())), (away - 50, 2_000, unreadable)]
            }
            Recipe::Wiped => vec![(0, long, Fault::Wipe(any))],
            Recipe::WipedThenLead => {
                let (alone, back) = (draws.between(300, 2_000), draws.between(20, 300));
                let other = Target::LastFollowerOf(bucket);
                let gone = alone + back + draws.below(300);
                vec![
                    (0, gone + 100, Fault::Isolate(other)),
                    (alone, back, Fault::Wipe(follower)),
                    (gone, 3_000, Fault::Crash(leader)),
                ]
            }
            Recipe::RottenDisk => vec![(0, long, Fault::BitRot(any))],
            Recipe::Misdirected => vec![(0, long, Fault::Misdirect(any))],
            Recipe::ClockJumps => {
                let ms = draws.between(1, 7_200_000) as i64;
                vec![(0, long, Fault::ClockStep { target: any, ms: if draws.chance(500) { ms } else { -ms } })]
            }
            Recipe::LagThenLead => {
                let away = draws.between(3_000, 9_000);
                let back = away + draws.between(300, 1_500);
                let down = if draws.chance(500) { Fault::Crash(follower) } else { Fault::Isolate(follower) };
                vec![(0, away, down), (back, 200, Fault::LoseAnswers(leader)), (back + 100, 4_000, Fault::Crash(leader))]
            }
            Recipe::LoneLeaderDies => {
                let alone = draws.between(20, 300);
                let end = if draws.chance(500) { Fault::Crash(leader) } else { Fault::PowerLoss(leader) };
                vec![(0, alone + 500, Fault::Mute(leader)), (alone, 3_000, end)]
            }
            Recipe::SlowThenPower => {
                let target = if draws.chance(500) { Target::All } else { any };
                let until = draws.between(200, 1_500);
                let slow = Fault::SlowDisk { target, ms: draws.between(20, 500) };
                vec![(0, until + 100, slow), (until, short, Fault::PowerLoss(target))]
            }
            Recipe::VoteForgotten => {
                let voted = draws.between(300, 1_500);
                let slow = Fault::SlowDisk { target: Target::All, ms: draws.between(300, 1_000) };
                let story = [(0, voted, slow), (100, voted, Fault::Crash(leader)), (voted, 4_000, Fault::Isolate(leader))];
                story.into_iter().chain([(voted, draws.between(50, 200), Fault::PowerLoss(follower))]).collect()
            }
        }
    }

    fn bad_links(&self, draws: &Source) -> Fault {
        match draws.below(3) {
            0 => Fault::Loss { per_mille: draws.between(10, 300) },
            1 => Fault::Delay { ms_max: draws.between(10, 600) },
            _ => Fault::Twice { per_mille: draws.between(50, 500) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_one_plan_which_survives_json() {
        for seed in 1..50 {
            let plan = generate(seed, 60);
            assert_eq!(plan, generate(seed, 60));
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
            assert!(plan.actions.iter().all(|action| action.at_ms < plan.heal_at_ms));
            assert_eq!(plan.check(), Ok(()));
            assert!(plan.workload.writers.len() >= plan.workload.tables.len());
        }
        assert_ne!(generate(1, 60).actions, generate(2, 60).actions);
    }

    #[test]
    fn every_kind_of_fault_occurs_often_enough() {
        let mut seeds = std::collections::BTreeMap::<&str, u32>::new();
        for seed in 1..=200 {
            let kinds: std::collections::BTreeSet<_> =
                generate(seed, 60).actions.iter().map(|action| action.fault.kind()).collect();
            for kind in kinds {
                *seeds.entry(kind).or_default() += 1;
            }
        }
        assert_eq!(seeds.len(), 28, "{seeds:?}");
        // A sweep demands that each takes effect in a fifth of its seeds.
        assert!(seeds.values().all(|count| *count > 40), "{seeds:?}");
    }
}

//! Random calls on several groups, with crashes anywhere: recovery lands on a state that was, and loses nothing acknowledged.

use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::collections::BTreeMap;

const GROUPS: std::ops::Range<u64> = 1..4;

#[derive(Clone, Debug)]
enum Step {
    Append {
        group: u64,
        count: u64,
        bytes: usize,
    },
    Truncate {
        group: u64,
        back: u64,
    },
    Vote {
        group: u64,
        vote: u8,
    },
    Commit {
        group: u64,
        back: u64,
    },
    Purge {
        group: u64,
        back: u64,
    },
    Release {
        group: u64,
        back: u64,
    },
    Snapshot {
        group: u64,
    },
    Install {
        group: u64,
        ahead: u64,
        retained: u64,
    },
    Drop {
        group: u64,
    },
    /// Until everything so far is durable.
    Wait,
    /// Let the writer get a little further.
    Yield {
        times: u8,
    },
    Power {
        keep: u64,
    },
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (GROUPS, 1..5_u64, 0..3000_usize).prop_map(|(group, count, bytes)| Step::Append { group, count, bytes }),
        2 => (GROUPS, 0..4_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        2 => (GROUPS, any::<u8>()).prop_map(|(group, vote)| Step::Vote { group, vote }),
        2 => (GROUPS, 0..4_u64).prop_map(|(group, back)| Step::Commit { group, back }),
        2 => (GROUPS, 0..6_u64).prop_map(|(group, back)| Step::Purge { group, back }),
        3 => (GROUPS, 0..6_u64).prop_map(|(group, back)| Step::Release { group, back }),
        1 => GROUPS.prop_map(|group| Step::Snapshot { group }),
        1 => (GROUPS, 0..9_u64, 0..5_u64).prop_map(|(group, ahead, retained)| Step::Install { group, ahead, retained }),
        1 => GROUPS.prop_map(|group| Step::Drop { group }),
        4 => Just(Step::Wait),
        4 => (0..12_u8).prop_map(|times| Step::Yield { times }),
        3 => any::<u64>().prop_map(|keep| Step::Power { keep }),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

/// One group as a caller sees it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    log: GroupLog,
    entries: Vec<JournalEntry>,
}

impl Group {
    fn end(&self) -> u64 {
        self.log.last.map_or(1, |last| last.index + 1)
    }

    /// Brings `last` and `retained_from` in line with the entries.
    fn settle(&mut self) {
        self.log.last = self.entries.last().map(|entry| entry.id).max(self.log.purged);
        if let Some(first) = self.entries.first() {
            self.log.retained_from = first.id.index;
        }
    }
}

type State = BTreeMap<u64, Group>;

struct Run {
    disk: MemDisk,
    journal: Journal,
    term: u64,
    now: State,
    /// States since the last restart, in order. A crash lands on one of them.
    history: Vec<State>,
    /// Place in `history` and whether it is durable by now.
    pending: Vec<(usize, Durable)>,
    /// Everything up to this place in `history` was acknowledged.
    durable: usize,
}

impl Run {
    fn note(&mut self) {
        self.history.push(self.now.clone());
    }

    fn wait_for(&mut self, durable: Durable) {
        self.pending.push((self.history.len() - 1, durable));
    }

    fn settle_pending(&mut self) {
        let mut still = Vec::new();
        for (place, mut durable) in std::mem::take(&mut self.pending) {
            match (&mut durable).now_or_never() {
                Some(Ok(())) => self.durable = self.durable.max(place),
                // The disk is gone: it may or may not be there.
                Some(Err(_)) => {}
                None => still.push((place, durable)),
            }
        }
        self.pending = still;
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Append { group, count, bytes } => self.append(group, count, bytes),
            Step::Truncate { group, back } => self.truncate(group, back),
            Step::Vote { group, vote } => {
                let vote = Bytes::copy_from_slice(&[vote]);
                self.now.entry(group).or_default().log.vote = Some(vote.clone());
                self.note();
                let durable = self.journal.save_vote(GroupId(group), vote);
                self.wait_for(durable);
            }
            Step::Commit { group, back } => self.commit(group, back),
            Step::Purge { group, back } => self.purge(group, back),
            Step::Release { group, back } => self.release(group, back),
            Step::Snapshot { group } => self.snapshot(group),
            Step::Install { group, ahead, retained } => self.install(group, ahead, retained),
            Step::Drop { group } => {
                self.now.remove(&group);
                self.note();
                let durable = self.journal.drop_group(GroupId(group));
                self.wait_for(durable);
            }
            Step::Wait => {
                append(&self.journal, 99, Vec::new()).await.expect("durable");
                self.durable = self.history.len() - 1;
                self.pending.clear();
            }
            Step::Yield { times } => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
            Step::Power { keep } => {
                self.settle_pending();
                let mut draw = keep | 1;
                let disk = self.disk.crash(move || {
                    draw ^= draw << 13;
                    draw ^= draw >> 7;
                    draw ^= draw << 17;
                    draw % 3 == 0
                });
                self.restart(disk).await;
            }
            Step::Kill => {
                self.settle_pending();
                self.restart(self.disk.kill()).await;
            }
            Step::Close => {
                self.journal.close().await;
                self.durable = self.history.len() - 1;
                self.restart(self.disk.kill()).await;
            }
        }
    }

    fn append(&mut self, group: u64, count: u64, bytes: usize) {
        let model = self.now.entry(group).or_default();
        let first = model.end();
        let entries: Vec<_> = (first..first + count).map(|index| entry(self.term, index, bytes)).collect();
        for entry in &entries {
            let model = self.now.entry(group).or_default();
            model.entries.push(entry.clone());
            model.settle();
            self.note();
        }
        let (told, durable) = oneshot::channel();
        self.journal.append(GroupId(group), entries, Box::new(move |result| _ = told.send(result)));
        self.wait_for(Box::pin(async { durable.await.unwrap_or_else(|error| Err(io::Error::other(error))) }));
    }

    fn truncate(&mut self, group: u64, back: u64) {
        let Some(model) = self.now.get_mut(&group) else { return };
        let kept = (model.end() - 1).saturating_sub(back).max(model.log.purged.map_or(0, |purged| purged.index));
        self.term += 1;
        model.entries.retain(|entry| entry.id.index <= kept);
        model.settle();
        model.log.committed = model.log.committed.min(model.log.last);
        let last = model.log.last;
        self.note();
        let durable = self.journal.truncate_after(GroupId(group), last);
        self.wait_for(durable);
    }

    fn commit(&mut self, group: u64, back: u64) {
        let Some(model) = self.now.get_mut(&group) else { return };
        let place = (model.entries.len() as u64).checked_sub(back + 1);
        let Some(entry) = place.map(|place| model.entries[place as usize].id) else { return };
        // What is purged was committed.
        model.log.committed = model.log.committed.max(Some(entry)).max(model.log.purged);
        self.note();
        self.journal.save_committed(GroupId(group), entry);
    }

    fn purge(&mut self, group: u64, back: u64) {
        let Some(model) = self.now.get_mut(&group) else { return };
        let place = (model.entries.len() as u64).checked_sub(back + 1);
        let Some(upto) = place.map(|place| model.entries[place as usize].id) else { return };
        model.log.purged = model.log.purged.max(Some(upto));
        model.settle();
        self.note();
        let durable = self.journal.purge(GroupId(group), upto);
        self.wait_for(durable);
    }

    fn release(&mut self, group: u64, back: u64) {
        let Some(model) = self.now.get_mut(&group) else { return };
        let purged = model.log.purged.map_or(0, |purged| purged.index);
        let from = model.end().saturating_sub(back).min(purged + 1);
        if from > model.log.retained_from && purged > 0 {
            model.entries.retain(|entry| entry.id.index >= from);
            model.log.retained_from = from;
            model.settle();
            self.note();
        }
        let ask = self.now[&group].end().saturating_sub(back);
        self.journal.release(GroupId(group), ask);
    }

    fn snapshot(&mut self, group: u64) {
        let Some(model) = self.now.get_mut(&group) else { return };
        let Some(last) = model.log.last else { return };
        if model.log.snapshot.as_ref().is_none_or(|present| present.last <= last) {
            model.log.snapshot = Some(snapshot(last));
        }
        self.note();
        let durable = self.journal.save_snapshot(GroupId(group), snapshot(last));
        self.wait_for(durable);
    }

    fn install(&mut self, group: u64, ahead: u64, retained: u64) {
        let model = self.now.entry(group).or_default();
        let floor = model.log.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.index);
        let floor = floor.max(model.log.purged.map_or(0, |purged| purged.index));
        let index = (floor + 1).max((model.end() + ahead).saturating_sub(4));
        // Either of our own log, or of a newer term, so that nothing above fits.
        let ours = model.entries.iter().find(|entry| entry.id.index == index).map(|entry| entry.id);
        self.term += ahead % 2;
        let last = ours.filter(|_| ahead.is_multiple_of(2)).unwrap_or(id(self.term, index));
        let first = (last.index + 1).saturating_sub(retained).max(1);
        let retained: Vec<_> = (first..=last.index).map(|index| entry(last.term, index, 50)).collect();
        let from = retained.first().map_or(last.index + 1, |entry| entry.id.index);
        let above: Vec<_> = model.entries.iter().filter(|entry| entry.id.index > last.index).cloned().collect();
        let goes_on = above.first().is_some_and(|entry| entry.id.index == last.index + 1)
            && above.last().is_some_and(|entry| entry.id.term >= last.term);
        model.entries = retained.clone();
        model.entries.extend(above.into_iter().filter(|_| goes_on));
        model.log.purged = model.log.purged.max(Some(last));
        model.log.committed = model.log.committed.max(Some(last));
        model.log.snapshot = Some(snapshot(last));
        model.log.retained_from = from;
        model.settle();
        self.note();
        let durable = self.journal.install(GroupId(group), snapshot(last), retained);
        self.wait_for(durable);
    }

    async fn restart(&mut self, disk: MemDisk) {
        self.pending.clear();
        self.journal = open(&disk).await;
        let found = observe(&self.journal).await;
        let landed = self.history[self.durable..].iter().rev().find(|state| without_defaults(state) == found);
        let Some(landed) = landed else {
            let known: Vec<_> = self.history[self.durable..].iter().map(|state| shape(&without_defaults(state))).collect();
            panic!("recovered\n{}\nwhich is none of\n{}", shape(&found), known.join("\n"));
        };
        (self.now, self.durable) = (landed.clone(), 0);
        self.history = vec![landed.clone()];
        // Recovering twice is recovering once, and what was found is durable by then.
        self.disk = disk.crash(|| false);
        self.journal = open(&self.disk).await;
        assert_eq!(shape(&observe(&self.journal).await), shape(&found), "the second recovery differs");
    }
}

async fn observe(journal: &Journal) -> State {
    let mut found = State::new();
    for group in journal.groups() {
        found.insert(group.0, Group { log: journal.group(group), entries: read_all(journal, group.0).await });
    }
    without_defaults(&found)
}

/// A group that was only touched is as good as none.
fn without_defaults(state: &State) -> State {
    let state = state.iter().filter(|(_, group)| **group != Group::default());
    state.map(|(id, group)| (*id, group.clone())).collect()
}

fn shape(state: &State) -> String {
    let ids = |group: &Group| group.entries.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>().join(" ");
    state.iter().map(|(id, group)| format!("  {id}: {:?} [{}]\n", group.log, ids(group))).collect()
}

async fn run(steps: Vec<Step>) {
    let disk = MemDisk::new();
    let journal = open(&disk).await;
    let history = vec![State::new()];
    let mut run = Run { disk, journal, term: 1, now: State::new(), history, pending: Vec::new(), durable: 0 };
    for step in steps {
        run.step(step).await;
        run.settle_pending();
    }
    let live = observe(&run.journal).await;
    assert_eq!(shape(&live), shape(&without_defaults(&run.now)), "what calls see at once differs from the model");
    run.journal.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_crash_lands_on_a_state_that_was(steps in proptest::collection::vec(step(), 1..60)) {
        block_on(run(steps));
    }
}

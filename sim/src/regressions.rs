//! Plans that once were red, with their stories. `run --regressions` runs them all; `make sim` and `make sim-smoke` begin with them.

/// A plan below `sim/plans` (made by `floss-sim plan --seed N --seconds S`), and what it showed.
pub struct Regression {
    pub name: &'static str,
    pub plan: &'static str,
    pub story: &'static str,
    /// A planted bug like it, with which it must be red again; empty: none is.
    pub proof: &'static str,
}

pub const REGRESSIONS: &[Regression] = &[
    Regression {
        name: "seed-5-20",
        plan: include_str!("../plans/seed-5-20.json"),
        story: "I5: purged above snapshot after an install, because the figures of Raft lag behind the journal",
        proof: "",
    },
    Regression {
        name: "seed-11-20",
        plan: include_str!("../plans/seed-11-20.json"),
        story: "panic: an append was refused by a journal with a failed disk, then its entries were applied from nothing",
        proof: "",
    },
    Regression {
        name: "seed-15-30",
        plan: include_str!("../plans/seed-15-30.json"),
        story: "I2: a leader restarted after a failed sync led its old term again and gave an index to another entry",
        proof: "",
    },
    Regression {
        name: "seed-2-60",
        plan: include_str!("../plans/seed-2-60.json"),
        story: "liveness: a wiped node waited to be let in by followers who, restarted, took it for their leader by their last vote",
        proof: "M10",
    },
    Regression {
        name: "seed-107-60",
        plan: include_str!("../plans/seed-107-60.json"),
        story: "panic: a snapshot that was not needed was acknowledged before the log up to it was on the follower's slow disk",
        proof: "R23",
    },
    Regression {
        name: "seed-103-6",
        plan: include_str!("../plans/seed-103-6.json"),
        story: "panic of the leader: a follower answered a snapshot that it did not need before its own log was on disk, then lost power",
        proof: "",
    },
    Regression {
        name: "seed-127-60",
        plan: include_str!("../plans/seed-127-60.json"),
        story: "protocol: a node that had just joined named a leader whose registration its catalog had not reached yet",
        proof: "",
    },
    Regression {
        name: "seed-54-60",
        plan: include_str!("../plans/seed-54-60.json"),
        story: "liveness: an append waited on a slow disk while its leader was wiped; then it ended the doubt in that leader for ever",
        proof: "M11",
    },
    Regression {
        name: "seed-143-60",
        plan: include_str!("../plans/seed-143-60.json"),
        story: "liveness: frozen while another was elected and wiped, a node then read what that one had sent before, and trusted it for ever",
        proof: "M17",
    },
    Regression {
        name: "seed-302-60",
        plan: include_str!("../plans/seed-302-60.json"),
        story: "liveness: a node was wiped while another, frozen until then, handled the message that named it leader; the other trusted it for ever",
        proof: "M20",
    },
    Regression {
        name: "seed-28-60",
        plan: include_str!("../plans/seed-28-60.json"),
        story: "panic: a table was dropped while its machine was about to apply, and took the entries of a log that was gone for applied",
        proof: "",
    },
    Regression {
        name: "seed-9-60",
        plan: include_str!("../plans/seed-9-60.json"),
        story: "liveness: a leader whose offer was lost told the others to elect, and then refused the vote that they needed",
        proof: "M19",
    },
    Regression {
        name: "twice-69-60",
        plan: include_str!("../plans/twice-69-60.json"),
        story: "I13: pieces of a snapshot came twice and late, one pushed the others out, and the rest was taken for all of it",
        proof: "R24",
    },
    Regression {
        name: "seed-69-60",
        plan: include_str!("../plans/seed-69-60.json"),
        story: "liveness: a leader was asked to hand over and the other did not hear of it; it led on and appended nothing more",
        proof: "M18",
    },
    Regression {
        name: "seed-265-60",
        plan: include_str!("../plans/seed-265-60.json"),
        story: "I5: committed above last while a snapshot was being installed on a slow disk; the figures came from two places",
        proof: "",
    },
    Regression {
        name: "seed-47-60",
        plan: include_str!("../plans/seed-47-60.json"),
        story: "I7: a deposed leader, cut off, refused a batch whose predecessors it had not seen",
        proof: "",
    },
    Regression {
        name: "seed-59-60",
        plan: include_str!("../plans/seed-59-60.json"),
        story: "liveness: restarted followers believed their last vote, whose leader had restarted too and could not win",
        proof: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::MUTANTS;
    use crate::plan::Plan;

    #[test]
    fn all_plans_can_be_read_and_their_proofs_exist() {
        for known in REGRESSIONS {
            let plan = Plan::parse(known.plan.as_bytes());
            assert!(plan.is_ok(), "{}: {plan:?}", known.name);
            assert!(known.proof.is_empty() || MUTANTS.iter().any(|mutant| mutant.id == known.proof), "{}", known.name);
        }
    }
}

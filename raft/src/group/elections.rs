//! When one replica tries to be elected next.

use crate::env::runtime::RaftRuntime;
use crate::env::runtime::time::Instant;
use floss_protocol::{mutant, reached};
use openraft_rt::AsyncRuntime;
use rand::RngExt;
use std::sync::Mutex;
use std::time::Duration;

/// The first attempt comes within this time, so that two replicas seldom start together.
const FIRST_MS_MAX: u64 = 60;
/// From one attempt to the next, at least; at most half as much again. Later attempts: the last of these.
const PAUSES_MS: [u64; 5] = [120, 120, 200, 400, 800];

#[derive(Default)]
pub struct Elections {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attempts: usize,
    /// None: no election is needed.
    next_at: Option<Instant>,
    patient_until: Option<Instant>,
    /// Its leader has lost its leadership, although its node is there.
    doubted_term: Option<u64>,
    /// Its leader has shown that it leads.
    trusted_term: Option<u64>,
    /// Its leader is being asked.
    asked_term: Option<u64>,
    /// How often doubt arose, ever.
    doubts: u64,
}

impl Elections {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while elections are held")
    }

    /// A first election is under way, started by hand: no others for a while.
    pub fn be_patient(&self, patience: Duration) {
        self.state().patient_until = Some(Instant::now() + patience);
    }

    pub fn is_patient(&self) -> bool {
        self.state().patient_until.is_some_and(|until| Instant::now() < until)
    }

    /// The leader of `term` has lost its leadership. `None`: so has a node that is not known to lead; what it sent before that may be
    /// under way here, and name it.
    pub fn doubt(&self, term: Option<u64>) {
        let mut state = self.state();
        if term.is_some() {
            (state.doubted_term, state.trusted_term, state.asked_term) = (term, None, None);
        }
        state.doubts += 1;
    }

    /// Ask before a message is handled that may show a leader; [`Self::trust`] wants it.
    pub fn doubts(&self) -> u64 {
        self.state().doubts
    }

    /// The leader showed that it led when there had been `doubts`: an old message may have cast doubt on it. If doubt arose since then,
    /// the leader may have died between its message and now (a slow disk kept it waiting), so nothing is known: it is asked. `None`: the
    /// message may be of a former life of its node, which shows nothing either.
    pub fn trust(&self, term: u64, doubts: Option<u64>) {
        let mut state = self.state();
        let is_fresh = doubts.is_some_and(|doubts| state.doubts == doubts || mutant!("M11"));
        if !is_fresh {
            reached!("leader_shown_before_doubt");
        }
        // Trust that is there is younger than the last doubt.
        let is_trusted = is_fresh || state.trusted_term == Some(term);
        (state.doubted_term, state.trusted_term) = (None, is_trusted.then_some(term));
        if is_trusted {
            state.asked_term = None;
        }
    }

    /// Whether it is known that the leader of this term leads, or does not.
    pub fn is_settled(&self, term: u64) -> bool {
        let state = self.state();
        state.trusted_term == Some(term) || state.doubted_term == Some(term)
    }

    /// False if it is being asked already.
    pub fn start_asking(&self, term: u64) -> bool {
        self.state().asked_term.replace(term) != Some(term)
    }

    pub fn end_asking(&self, term: u64) {
        self.state().asked_term.take_if(|asked| *asked == term);
    }

    pub fn doubted_term(&self) -> Option<u64> {
        self.state().doubted_term
    }

    /// No election is needed.
    pub fn rest(&self) {
        let mut state = self.state();
        if state.next_at.is_some() {
            (state.attempts, state.next_at) = (0, None);
        }
    }

    /// An election is needed. True if the next attempt is to be made now; it then counts as made.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        let after = |ms: u64| now + Duration::from_millis(ms);
        let mut state = self.state();
        match state.next_at {
            None => {
                state.next_at = Some(after(RaftRuntime::thread_rng().random_range(0..FIRST_MS_MAX)));
                false
            }
            Some(next_at) if now < next_at => false,
            Some(_) => {
                let pause_ms = PAUSES_MS[state.attempts.min(PAUSES_MS.len() - 1)];
                state.attempts += 1;
                state.next_at = Some(after(pause_ms + RaftRuntime::thread_rng().random_range(0..pause_ms / 2)));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_waited_while_its_leader_died_does_not_end_the_doubt_for_good() {
        let elections = Elections::default();
        let doubts = elections.doubts();
        elections.trust(7, Some(doubts));
        assert!(elections.is_settled(7), "it showed that it leads");
        let doubts = elections.doubts();
        elections.doubt(Some(7));
        elections.trust(7, Some(doubts));
        assert!(!elections.is_settled(7) && elections.doubted_term().is_none(), "it has to be asked");
        elections.doubt(Some(7));
        elections.trust(7, Some(elections.doubts()));
        assert!(elections.is_settled(7) && elections.doubted_term().is_none(), "it showed it again, later");
    }

    #[test]
    fn a_message_that_names_a_leader_which_died_meanwhile_shows_nothing() {
        let elections = Elections::default();
        let doubts = elections.doubts();
        elections.doubt(None);
        elections.trust(7, Some(doubts));
        assert!(!elections.is_settled(7), "it has to be asked");
        elections.trust(7, Some(elections.doubts()));
        elections.doubt(None);
        assert!(elections.is_settled(7) && elections.doubted_term().is_none(), "somebody else died");
    }

    #[test]
    fn a_message_of_a_former_life_shows_nothing() {
        let elections = Elections::default();
        elections.trust(7, None);
        assert!(!elections.is_settled(7), "it has to be asked");
        elections.trust(7, Some(elections.doubts()));
        elections.trust(7, None);
        assert!(elections.is_settled(7), "it has answered since");
        elections.doubt(Some(7));
        elections.trust(7, None);
        assert!(!elections.is_settled(7), "it has to be asked again");
    }
}

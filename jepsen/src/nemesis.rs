//! Which nodes to kill next. Plans are data: the same seed gives the same plan.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// Whoever leads this bucket.
    Leader {
        bucket: i32,
    },
    Node {
        index: usize,
    },
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    Leader,
    All,
    Mixed,
}

/// `rounds` strikes.
pub fn plan(profile: Profile, seed: u64, rounds: u64, nodes: usize, buckets: i32) -> Vec<Strike> {
    (0..rounds)
        .map(|round| {
            let draw = |stream: u64| mix(seed ^ mix(round ^ stream << 32));
            let leader = Strike::Leader { bucket: (draw(1) % buckets as u64) as i32 };
            match profile {
                Profile::Leader => leader,
                Profile::All => Strike::All,
                Profile::Mixed => match draw(2) % 10 {
                    0..6 => leader,
                    6..8 => Strike::Node { index: (draw(3) % nodes as u64) as usize },
                    _ => Strike::All,
                },
            }
        })
        .collect()
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_plan_and_every_strike_comes_up() {
        let strikes = plan(Profile::Mixed, 7, 100, 3, 3);
        assert_eq!(strikes, plan(Profile::Mixed, 7, 100, 3, 3));
        assert_ne!(strikes, plan(Profile::Mixed, 8, 100, 3, 3));
        assert!(strikes.contains(&Strike::All));
        assert!((0..3).all(|bucket| strikes.contains(&Strike::Leader { bucket })));
        assert!((0..3).all(|index| strikes.contains(&Strike::Node { index })));
    }
}

//! The rise/fall machine: when do check results make a server up or down.
use crate::server::Health;

/// State of one server's checks.
#[derive(Clone, Copy, Debug)]
pub struct RiseFall {
    health: Health,
    /// Results in a row against `health`.
    against: u32,
    rise: u32,
    fall: u32,
}

impl RiseFall {
    /// Starts at `health`. `fall` failures in a row make it down, `rise` successes up; both at least 1.
    pub fn new(health: Health, rise: u32, fall: u32) -> Self {
        Self { health, against: 0, rise: rise.max(1), fall: fall.max(1) }
    }

    /// The state as of the last result.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the last results contradict the state.
    pub fn in_transition(&self) -> bool {
        self.against > 0
    }

    /// Takes in one result; `Some` when it changes the state.
    pub fn observe(&mut self, passed: bool) -> Option<Health> {
        if passed == (self.health == Health::Up) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if passed { self.rise } else { self.fall };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = if passed { Health::Up } else { Health::Down };
        Some(self.health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_goes_down_after_fall_failures_in_a_row_and_up_after_rise_successes() {
        let mut checks = RiseFall::new(Health::Up, 2, 3);
        let results = [false, false, true, false, false, false, true, false, true, true];
        let seen: Vec<_> = results.iter().map(|passed| checks.observe(*passed)).collect();
        let mut expected = vec![None; 10];
        expected[5] = Some(Health::Down);
        expected[9] = Some(Health::Up);
        assert_eq!(seen, expected);
    }
}

//! The table of steps: what comes after what, how long it may take, and why.
//!
//! The order of START is read from the column `after`; STOP is its exact reverse. Steps that do not name each other
//! may run at the same time.

use std::time::Duration;

/// One row: a step and its place in the order.
#[derive(Debug, Clone, Copy)]
pub struct Row<S: 'static> {
    /// The step.
    pub step: S,
    /// What must be up before this step starts; this step must be down before any of those stops.
    pub after: &'static [S],
    /// A START that takes longer has failed.
    pub start_within: Duration,
    /// A STOP that takes longer has failed, and that is a matter for the guard.
    pub stop_within: Duration,
    /// Why it stands here.
    pub reason: &'static str,
}

/// The steps of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The kernel's gate for the floating IP, which closes by itself.
    Lease,
    /// The floating IP on its interface, and its announcement.
    Vip,
    /// The engines answer SIP.
    SipListen,
}

/// Kernel calls: they take microseconds, unless the machine is in trouble.
const KERNEL: Duration = Duration::from_secs(1);
/// The engines rebuild the transactions of all pending calls.
const ENGINES_START: Duration = Duration::from_secs(10);
/// The engines forget them.
const ENGINES_STOP: Duration = Duration::from_secs(2);

/// The table. A row comes after all rows that it names.
pub const TABLE: &[Row<Step>] = &[
    Row {
        step: Step::Lease,
        after: &[],
        start_within: KERNEL,
        stop_within: KERNEL,
        reason: "first up, last down: nothing of this node may be reachable, even by mistake, outside the lease",
    },
    Row {
        step: Step::Vip,
        after: &[Step::Lease],
        start_within: KERNEL,
        stop_within: KERNEL,
        reason: "its announcement draws the traffic here, and a closed gate would drop it",
    },
    Row {
        step: Step::SipListen,
        after: &[Step::Vip],
        start_within: ENGINES_START,
        stop_within: ENGINES_STOP,
        reason: "what a rebuilt call sends leaves from the floating IP; down first, so that no answer is begun that the gate then cuts off",
    },
];

/// Whether each row stands after all rows that it names, and each step has one row: what [`crate::sequence`] relies on.
#[must_use]
pub fn is_ordered<S: Copy + Eq>(table: &[Row<S>]) -> bool {
    table.iter().enumerate().all(|(i, row)| {
        let before = &table[..i];
        before.iter().all(|r| r.step != row.step)
            && row.after.iter().all(|a| before.iter().any(|r| r.step == *a))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_gives_a_reason_for_each_row() {
        assert!(is_ordered(TABLE));
        assert!(TABLE.iter().all(|row| !row.reason.is_empty()));
    }

    #[test]
    fn a_table_with_a_step_before_what_it_needs_or_twice_is_not_in_order() {
        let backwards: Vec<_> = TABLE.iter().rev().copied().collect();
        assert!(!is_ordered(&backwards));
        assert!(!is_ordered(&[TABLE[0], TABLE[0]]));
    }
}

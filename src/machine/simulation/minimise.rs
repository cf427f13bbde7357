//! What a history needs to fail: of a plan that does, the least that still does.

use super::Plan;

/// Simpler values of everything that is no fault. Each is tried for itself.
const SIMPLER: &[fn(&mut Plan)] = &[
    |plan| plan.records /= 2,
    |plan| plan.records -= plan.records.min(1),
    |plan| plan.partitions = 1,
    |plan| plan.partitions -= usize::from(plan.partitions > 1),
    |plan| plan.nodes = 2,
    |plan| plan.batch_records = 1,
    |plan| plan.max_in_flight = 1,
    |plan| plan.max_request_size = 1 << 20,
    |plan| plan.linger = 0,
    |plan| plan.identity_delay = 0,
    |plan| plan.first_epoch = 0,
    |plan| plan.first_sequence = 0,
    |plan| plan.is_old_broker = false,
    |plan| plan.is_stopped = false,
    // What is done without idempotence is no simpler case of what is done with it, and neither are five batches in flight
    // without it: they may change their order.
    |plan| plan.window = 1,
];

/// Of the plan without each fault, and with simpler sizes, whatever `fails` with: nothing more can be left out of it.
pub(super) fn minimised(mut plan: Plan, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut replace = |plan: &mut Plan, change: &dyn Fn(&mut Plan)| {
        let mut simpler = plan.clone();
        change(&mut simpler);
        // Whatever changes is less of something: there is an end.
        let is_other = format!("{simpler:?}") != format!("{plan:?}");
        let is_simpler = is_other && fails(&simpler);
        if is_simpler {
            *plan = simpler;
        }
        is_simpler
    };
    loop {
        let mut is_simpler = false;
        for kind in 0..plan.faults.kinds().len() {
            is_simpler |= replace(&mut plan, &|plan| *plan.faults.kinds()[kind].1 = 0);
        }
        for change in SIMPLER {
            is_simpler |= replace(&mut plan, change);
        }
        if !is_simpler {
            return plan;
        }
    }
}

//! What a history needs to fail: of a plan that does, the least that still does.

use super::History;

/// Of the plan without each fault, and with simpler sizes, whatever `fails` with: nothing more can be left out of it.
pub(super) fn minimised<H: History>(mut plan: H, mut fails: impl FnMut(&H) -> bool) -> H {
    let mut replace = |plan: &mut H, change: &dyn Fn(&mut H)| {
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
        for kind in 0..plan.rates().len() {
            is_simpler |= replace(&mut plan, &|plan| *plan.rates()[kind].1 = 0);
        }
        for change in H::SIMPLER {
            is_simpler |= replace(&mut plan, change);
        }
        if !is_simpler {
            return plan;
        }
    }
}

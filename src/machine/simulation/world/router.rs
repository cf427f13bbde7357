//! The router: which task has which partition, and who the producer is.

use super::{Home, Message, Request, SWEEP, What, World};
use crate::machine::accumulator::{Hint, PartitionId};
use crate::machine::sequence::Identity;
use crate::machine::simulation::{MS, Micros};

/// How often it asks for a picture unasked.
const METADATA_MAX_AGE: Micros = 1000 * MS;

impl World {
    pub(super) fn ask(&mut self, request: Request) {
        self.requests.push_back(request);
        let delay = self.random.below(MS / 4);
        self.after(delay, What::RouterWake);
    }

    pub(super) fn route(&mut self) {
        while let Some(request) = self.requests.pop_front() {
            match request {
                Request::Left { id, partition } => {
                    self.homes[id as usize] = Home::Router(partition);
                    self.place(id);
                }
                Request::Refresh => self.refresh(),
                Request::Hint(Hint { partition, leader, leader_epoch, .. }) => {
                    let known = &mut self.picture[partition as usize];
                    if leader_epoch as u32 > known.1 {
                        *known = (Some(leader as usize), leader_epoch as u32);
                        self.place(partition as PartitionId);
                    }
                }
                Request::NewEpoch(spent) if self.identity == Some(spent) => {
                    if spent.epoch < i16::MAX - 1 {
                        self.set_identity(Some(Identity { epoch: spent.epoch + 1, ..spent }));
                    } else {
                        self.set_identity(None);
                        self.init_producer_id();
                    }
                }
                Request::NewEpoch(_) => {}
            }
        }
    }

    pub(super) fn init_producer_id(&mut self) {
        if !std::mem::replace(&mut self.is_initializing, true) {
            let delay = self.random.between(0, 2 * self.plan.delay);
            self.after(delay, What::InitProducerId);
        }
    }

    pub(super) fn set_identity(&mut self, identity: Option<Identity>) {
        self.identity = identity;
        for node in 0..self.plan.nodes {
            let delay = self.random.between(0, self.plan.identity_delay);
            self.after(delay, What::HearIdentity(node));
        }
    }

    pub(super) fn refresh(&mut self) {
        if !std::mem::replace(&mut self.is_refreshing, true) {
            let picture = self.logs.iter().map(|log| (log.leader, log.leader_epoch)).collect();
            let delay = self.random.between(0, self.plan.metadata_delay);
            self.after(delay, What::Picture(picture));
        }
    }

    pub(super) fn handle_picture(&mut self, picture: &[(Option<usize>, u32)]) {
        self.is_refreshing = false;
        for (id, (leader, epoch)) in (0..).zip(picture) {
            // Pictures never go back.
            if *epoch >= self.picture[id as usize].1 {
                self.picture[id as usize] = (*leader, *epoch);
            }
            self.place(id);
        }
    }

    pub(super) fn place(&mut self, id: PartitionId) {
        let Some(node) = self.picture[id as usize].0 else { return };
        let home = &mut self.homes[id as usize];
        match home {
            Home::Leader(old) if *old != node => {
                let old = *old;
                *home = Home::Leaving;
                self.tell(old, Message::Release { id });
            }
            Home::Router(_) => {
                if let Home::Router(partition) = std::mem::replace(home, Home::Leader(node)) {
                    self.tell(node, Message::Adopt { id, partition });
                }
            }
            Home::Leader(_) | Home::Leaving => {}
        }
    }

    /// Partitions without a leader: what callers sealed comes here, and expires here.
    pub(super) fn sweep(&mut self) {
        let now = self.instant();
        for id in 0..self.plan.partitions as PartitionId {
            if !matches!(self.homes[id as usize], Home::Router(_)) {
                continue;
            }
            let taken = self.take(id);
            let Home::Router(moving) = &mut self.homes[id as usize] else { continue };
            taken.into_iter().for_each(|batch| moving.queue.push(batch));
            let ended: Vec<_> = std::iter::from_fn(|| moving.queue.poll_settled(now)).collect();
            for settled in ended {
                self.settle(settled);
            }
        }
        if self.now % METADATA_MAX_AGE < SWEEP || self.picture.iter().any(|(leader, _)| leader.is_none()) {
            self.refresh();
        }
        let all_is_appended = self.is_stopped || self.is_last && self.appended == self.plan.records;
        if !all_is_appended || self.ledger.pending > 0 {
            self.after(SWEEP, What::Sweep);
        }
    }
}

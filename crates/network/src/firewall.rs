//! Applies the ruleset: one netlink batch per change, restored when somebody
//! else took it away.

use std::io;

use budu_sys::nft::{Change, Family, Nftables, Transaction};

use crate::Error;
use crate::ruleset::{Elements, Plan, by_address, by_port};

/// The daemon's table in the kernel.
#[derive(Debug)]
pub(crate) struct Firewall {
    plan: Plan,
    socket: Nftables,
    /// There is, or may be, a table for IPv6.
    six: bool,
}

impl Firewall {
    pub(crate) fn open(plan: Plan) -> Result<Firewall, Error> {
        let socket = Nftables::open().map_err(|_| missing())?;
        Ok(Firewall { plan, socket, six: true })
    }

    /// Makes the kernel's table equal the plan with exactly `wanted`. What is
    /// right already is not touched, so established and new connections to
    /// kept elements go on undisturbed.
    pub(crate) fn reconcile(&mut self, wanted: &Elements) -> Result<(), Error> {
        let table = self.socket.table(Family::Ip, &self.plan.table).map_err(refused)?;
        let changes = match table {
            None => self.plan.make(Family::Ip, wanted.clone()),
            Some(table) if table.label != self.plan.label(Family::Ip) => {
                let mut changes = vec![Change::DeleteTable];
                changes.extend(self.plan.make(Family::Ip, wanted.clone()));
                changes
            }
            Some(_) => {
                let present = self.elements()?;
                let mut changes = present.without(wanted).delete();
                changes.extend(wanted.without(&present).add());
                changes
            }
        };
        self.apply(changes)?;
        self.settle6()
    }

    /// Makes the table for IPv6 what the plan wants, if it wants one.
    fn settle6(&mut self) -> Result<(), Error> {
        let wanted = self.plan.has(Family::Ip6);
        if !wanted && !self.six {
            return Ok(());
        }
        let found = self.socket.table(Family::Ip6, &self.plan.table).map_err(refused)?;
        let mut changes = Vec::new();
        if found.as_ref().is_none_or(|table| !wanted || table.label != self.plan.label(Family::Ip6)) {
            changes.extend(found.map(|_| Change::DeleteTable));
            if wanted {
                changes.extend(self.plan.make(Family::Ip6, Elements::default()));
            }
        }
        self.apply_to(Family::Ip6, changes)?;
        self.six = wanted;
        Ok(())
    }

    /// Makes the table unless it is there. Its elements are left as they are,
    /// even if the fixed part is replaced: they may belong to containers that
    /// are not adopted yet.
    pub(crate) fn ensure(&mut self, wanted: &Elements) -> Result<(), Error> {
        let mut wanted = wanted.clone();
        match self.socket.table(Family::Ip, &self.plan.table).map_err(refused)? {
            Some(table) if table.label == self.plan.label(Family::Ip) => return self.settle6(),
            // A table that is not ours has no such maps: nothing to keep.
            Some(_) => wanted.merge(self.elements().unwrap_or_default()),
            None => {}
        }
        self.reconcile(&wanted)
    }

    /// Follows another plan; elements in the kernel are kept as they are.
    pub(crate) fn replan(&mut self, plan: Plan, wanted: &Elements) -> Result<(), Error> {
        self.plan = plan;
        self.ensure(wanted)
    }

    /// Adds elements.
    pub(crate) fn add(&mut self, elements: Elements) -> Result<(), Error> {
        self.apply(elements.add())
    }

    /// Removes elements.
    pub(crate) fn delete(&mut self, elements: Elements) -> Result<(), Error> {
        self.apply(elements.delete())
    }

    /// Deletes the table, if it is there.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        if self.socket.table(Family::Ip6, &self.plan.table).map_err(refused)?.is_some() {
            self.apply_to(Family::Ip6, vec![Change::DeleteTable])?;
        }
        if self.socket.table(Family::Ip, &self.plan.table).map_err(refused)?.is_none() {
            return Ok(());
        }
        self.apply(vec![Change::DeleteTable])
    }

    fn elements(&mut self) -> Result<Elements, Error> {
        let table = &self.plan.table;
        Ok(Elements {
            by_address: self.socket.elements(table, &by_address()).map_err(refused)?,
            by_port: self.socket.elements(table, &by_port()).map_err(refused)?,
        })
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        self.apply_to(Family::Ip, changes)
    }

    fn apply_to(&mut self, family: Family, changes: Vec<Change>) -> Result<(), Error> {
        let transaction = Transaction { family, table: self.plan.table.clone(), changes };
        self.socket.apply(&transaction).map_err(|error| {
            let made = transaction.changes.first();
            let making = matches!(made, Some(Change::AddTable(_)));
            if making && error.source.kind() == io::ErrorKind::NotFound {
                tracing::debug!(%error, "a rule needs what the kernel does not have");
                return Error::Feature {
                    feature: "nf_tables expressions for NAT (nft_nat, nft_masq, nft_fib, nft_ct)",
                    hint: "load or build these modules, or start the daemon with --bridge none",
                };
            }
            refused(error)
        })
    }
}

fn refused(error: budu_sys::netlink::Error) -> Error {
    match error.source.kind() {
        io::ErrorKind::Unsupported => missing(),
        _ => Error::from(error),
    }
}

fn missing() -> Error {
    Error::Feature {
        feature: "nf_tables",
        hint: "load or build the module nf_tables, or start the daemon with --bridge none",
    }
}

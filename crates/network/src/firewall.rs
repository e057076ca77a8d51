//! Applies the ruleset: one netlink batch per change, restored when somebody
//! else took it away.

use std::io;

use budu_sys::nft::{Change, Family, Nftables, Transaction};

use crate::Error;
use crate::ruleset::{Elements, Maps, Plan, by_address, by_port};

/// There is a table for each.
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// The daemon's tables in the kernel.
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

    /// Makes the kernel's tables equal the plan with exactly `wanted`. What is
    /// right already is not touched, so established and new connections to
    /// kept elements go on undisturbed.
    pub(crate) fn reconcile(&mut self, wanted: &Elements) -> Result<(), Error> {
        FAMILIES.into_iter().try_for_each(|family| self.reconcile_table(family, wanted.table(family)))
    }

    fn reconcile_table(&mut self, family: Family, wanted: &Maps) -> Result<(), Error> {
        let has = self.plan.has(family);
        if !has && !self.six {
            return Ok(());
        }
        let found = self.socket.table(family, &self.plan.table).map_err(refused)?;
        let changes = match found {
            None if !has => Vec::new(),
            Some(_) if !has => vec![Change::DeleteTable],
            None => self.plan.make(family, wanted),
            Some(table) if table.label != self.plan.label(family) => {
                let mut changes = vec![Change::DeleteTable];
                changes.extend(self.plan.make(family, wanted));
                changes
            }
            Some(_) => {
                let present = self.elements(family)?;
                let mut changes = present.without(wanted).delete(family);
                changes.extend(wanted.without(&present).add(family));
                changes
            }
        };
        self.apply(family, changes)?;
        if family == Family::Ip6 {
            self.six = has;
        }
        Ok(())
    }

    /// Makes the tables unless they are there. Their elements are left as they
    /// are, even if the fixed part is replaced: they may belong to containers
    /// that are not adopted yet.
    pub(crate) fn ensure(&mut self, wanted: &Elements) -> Result<(), Error> {
        for family in FAMILIES {
            let mut wanted = wanted.table(family).clone();
            if self.plan.has(family) {
                match self.socket.table(family, &self.plan.table).map_err(refused)? {
                    Some(table) if table.label == self.plan.label(family) => continue,
                    // A table that is not ours has no such maps: nothing to keep.
                    Some(_) => wanted.merge(self.elements(family).unwrap_or_default()),
                    None => {}
                }
            }
            self.reconcile_table(family, &wanted)?;
        }
        Ok(())
    }

    /// Follows another plan; elements in the kernel are kept as they are.
    pub(crate) fn replan(&mut self, plan: Plan, wanted: &Elements) -> Result<(), Error> {
        self.plan = plan;
        self.ensure(wanted)
    }

    /// Adds elements.
    pub(crate) fn add(&mut self, elements: &Elements) -> Result<(), Error> {
        FAMILIES.into_iter().try_for_each(|family| self.apply(family, elements.table(family).add(family)))
    }

    /// Removes elements.
    pub(crate) fn delete(&mut self, elements: &Elements) -> Result<(), Error> {
        FAMILIES.into_iter().try_for_each(|family| self.apply(family, elements.table(family).delete(family)))
    }

    /// Deletes the tables, if they are there.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        for family in FAMILIES {
            if self.socket.table(family, &self.plan.table).map_err(refused)?.is_some() {
                self.apply(family, vec![Change::DeleteTable])?;
            }
        }
        Ok(())
    }

    fn elements(&mut self, family: Family) -> Result<Maps, Error> {
        let table = &self.plan.table;
        Ok(Maps {
            by_address: self.socket.elements(family, table, &by_address(family)).map_err(refused)?,
            by_port: self.socket.elements(family, table, &by_port(family)).map_err(refused)?,
        })
    }

    fn apply(&mut self, family: Family, changes: Vec<Change>) -> Result<(), Error> {
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

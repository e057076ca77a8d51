//! A printer of messages together with the way to its receiver.

use std::io;
use std::time::Duration;

use budu_runtime::log::Entry;

use super::about::About;
use super::driver::Driver;
use super::fluentd::{self, Fluentd};
use super::gelf::{self, Gelf};
use super::journald::Journald;
use super::options::Options;
use super::syslog::Syslog;
use super::wire::{Address, Batch, Wire};
use crate::Error;

/// What turns records into messages.
#[derive(Debug)]
enum Printer {
    Syslog(Syslog),
    Gelf(Gelf, gelf::Retry),
    Fluentd(Fluentd, fluentd::Settings),
    Journald(Journald),
}

/// One receiver.
#[derive(Debug)]
pub(super) struct Sink {
    printer: Printer,
    address: Address,
    wire: Option<Wire>,
    batch: Batch,
}

impl Sink {
    pub(super) fn new(driver: Driver, options: &Options, about: &About) -> Result<Sink, Error> {
        let (printer, address) = match driver {
            Driver::Syslog => {
                let (printer, address) = Syslog::new(options, about)?;
                (Printer::Syslog(printer), address)
            }
            Driver::Gelf => {
                let (printer, address, retry) = Gelf::new(options, about)?;
                (Printer::Gelf(printer, retry), address)
            }
            Driver::Fluentd => {
                let (printer, address, settings) = Fluentd::new(options, about)?;
                (Printer::Fluentd(printer, settings), address)
            }
            Driver::Journald => {
                let (printer, address) = Journald::new(about)?;
                (Printer::Journald(printer), address)
            }
            Driver::None | Driver::JsonFile | Driver::Local => {
                return Err(Error::invalid("this log driver sends nothing"));
            }
        };
        Ok(Sink { printer, address, wire: None, batch: Batch::default() })
    }

    /// Connects before the container starts. Errors are told in Docker's words.
    pub(super) async fn connect_first(&mut self) -> Result<(), String> {
        match self.address.connect().await {
            Ok(wire) => self.wire = Some(wire),
            Err(_) if matches!(&self.printer, Printer::Fluentd(_, settings) if settings.lazy) => {}
            Err(_) if matches!(self.printer, Printer::Journald(_)) => {
                return Err("journald is not enabled on this host".to_owned());
            }
            Err(error) if matches!(self.printer, Printer::Gelf(..)) => {
                let address = self.address.to_string();
                let address = address.split_once(' ').map_or("", |(_, address)| address);
                return Err(format!("gelf: cannot connect to GELF endpoint: {address} {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes a record in.
    pub(super) fn print(&mut self, entry: &Entry<'_>) {
        let batch = &mut self.batch;
        match &mut self.printer {
            Printer::Syslog(syslog) => syslog.print(entry, &mut batch.bytes),
            Printer::Gelf(gelf, _) => return gelf.print(entry, batch),
            Printer::Fluentd(fluentd, _) => fluentd.print(entry, &mut batch.bytes),
            Printer::Journald(journald) => journald.print(entry, &mut batch.bytes),
        }
        batch.end_message();
    }

    /// Bytes taken in and not yet sent.
    pub(super) fn size(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Sends what was taken in, over a new connection if the old one is gone.
    pub(super) async fn send(&mut self) -> io::Result<()> {
        if self.batch.bytes.is_empty() {
            return Ok(());
        }
        if self.wire.as_mut().is_none_or(Wire::is_closed) {
            self.wire = Some(self.address.connect().await.map_err(io::Error::other)?);
        }
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let outcome = match &mut self.printer {
            Printer::Fluentd(fluentd, _) => {
                // They stay here until there is a receipt.
                let (bytes, ends) = (self.batch.bytes.clone(), self.batch.ends.clone());
                let mut outcome = wire.send(&mut self.batch).await;
                if outcome.is_ok() {
                    outcome = fluentd.receipts(wire).await;
                }
                if outcome.is_err() {
                    self.batch = Batch { bytes, ends };
                }
                outcome
            }
            _ => wire.send(&mut self.batch).await,
        };
        if outcome.is_err() {
            self.wire = None;
        }
        outcome
    }

    /// Throws away what was taken in.
    pub(super) fn forget(&mut self) {
        self.batch.clear();
        if let Printer::Fluentd(fluentd, _) = &mut self.printer {
            fluentd.forget();
        }
    }

    /// So many attempts are enough.
    pub(super) fn gives_up(&self, attempts: u32) -> bool {
        matches!(&self.printer, Printer::Fluentd(_, settings) if attempts > settings.retries)
    }

    /// The pause that was asked for between attempts.
    pub(super) fn pause(&self) -> Option<Duration> {
        match &self.printer {
            Printer::Fluentd(_, settings) => Some(settings.wait),
            Printer::Gelf(_, retry) => Some(Duration::from_secs(retry.seconds.max(1).into())),
            Printer::Syslog(_) | Printer::Journald(_) => None,
        }
    }

    /// A container rather waits than goes on without a receiver.
    pub(super) fn insists(&self) -> bool {
        matches!(&self.printer, Printer::Fluentd(_, settings) if !settings.lazy)
    }
}

//! `context export`, `import`.

use std::io::{IsTerminal as _, Write as _};

use super::super::Command;
use crate::cli::Cli;
use crate::context::{Store, archive, check_name};
use crate::error::{Error, open_failed};
use crate::flags::Arity;
use crate::table::put_line;

/// `context export`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Export {
    args: Vec<String>,
}

/// `context import`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Import {
    args: Vec<String>,
}

impl Command for Export {
    const ABOUT: &'static str = "Export a context to a tar archive FILE or a tar stream on STDOUT";
    const USAGE: &'static str = "[OPTIONS] CONTEXT [FILE|-]";
    const ARITY: Arity = Arity::Between(1, 2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let name = &self.args[0];
        check_name(name)?;
        let bytes = Store::of(&cli.config).export(name)?;
        let file = self.args.get(1).cloned().unwrap_or_else(|| format!("{name}.dockercontext"));
        if file == "-" {
            let mut out = std::io::stdout().lock();
            if out.is_terminal() {
                return Err(Error::new("cowardly refusing to export to a terminal, specify a file path"));
            }
            out.write_all(&bytes)?;
            out.flush()?;
            return Ok(0);
        }
        // It has keys in it.
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        let target = options.write(true).create_new(true).mode(0o600).open(&file);
        let written = target.and_then(|mut target| target.write_all(&bytes));
        written.map_err(|error| open_failed(&file, &error))?;
        eprintln!("Written file {file:?}");
        Ok(0)
    }
}

impl Command for Import {
    const ABOUT: &'static str = "Import a context from a tar file";
    const USAGE: &'static str = "CONTEXT FILE|-";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (store, name, file) = (Store::of(&cli.config), &self.args[0], &self.args[1]);
        check_name(name)?;
        if store.get(name).is_ok() {
            return Err(Error::new(format_args!("context {name:?} already exists")));
        }
        let bytes = if file == "-" {
            archive::read(std::io::stdin().lock())?
        } else {
            archive::read(std::fs::File::open(file).map_err(|error| open_failed(file, &error))?)?
        };
        store.import(name, &bytes)?;
        put_line(name)?;
        eprintln!("Successfully imported context {name:?}");
        Ok(0)
    }
}

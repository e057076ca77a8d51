//! The options of `ps`, procps' dialects: what they say about columns. What they say about processes does not
//! matter here, as only the container's are shown.

use super::{Column, column};
use crate::Error;

/// What was found out so far.
#[derive(Debug, Default)]
struct Wish {
    /// `-o`, in order.
    own: Vec<String>,
    /// Long options of the System V dialect.
    full: bool,
    extra: bool,
    long: bool,
    jobs: bool,
    /// No address with `-l`.
    no_address: bool,
    /// A BSD format: `u`, `l`, `j`, or ` ` for the plain one.
    bsd: Option<char>,
}

/// The columns that options of `ps` ask for.
pub(super) fn columns(arguments: &str) -> Result<Vec<Column>, Error> {
    let unsupported = || Error::unsupported(format!("top with the ps options \"{arguments}\""));
    let wish = parse(arguments).ok_or_else(unsupported)?;
    let mut list: Vec<Column> = Vec::new();
    for name in wish.own.iter().map(String::as_str).chain(wish.preset().into_iter().flat_map(|p| p.split(','))) {
        list.push(column(name).ok_or_else(unsupported)?);
    }
    if list.iter().any(|c| c.title == "PID") || arguments.contains("pid=") {
        Ok(list)
    } else {
        Err(Error::invalid("Couldn't find PID field in ps output"))
    }
}

impl Wish {
    /// The columns without `-o`.
    fn preset(&self) -> Option<&'static str> {
        if !self.own.is_empty() {
            return None;
        }
        Some(match self.bsd {
            Some('u') => "user,pid,pcpu,pmem,vsz,rss,tty=TTY,stat,start_time=START,bsdtime,args",
            Some('l') => "f,uid,pid,ppid,priority=PRI,ni,vsz,rss,wchan,stat,tty=TTY,bsdtime,args",
            Some('j') => "ppid,pid,pgid,sid,tty=TTY,tpgid,stat,uid,bsdtime,args",
            Some(_) => "pid,tty=TTY,stat,bsdtime,args",
            None if self.long && self.no_address => "s,uid,pid,ppid,c,opri=PRI,ni,rss,sz,wchan,tty=TTY,time,comm=CMD",
            None if self.long => "f,s,uid,pid,ppid,c,opri=PRI,ni,addr,sz,wchan,tty=TTY,time,comm=CMD",
            None if self.extra => "user=UID,pid,ppid,c,sz,rss,psr,stime,tty=TTY,time,args=CMD",
            None if self.jobs && self.full => "user=UID,pid,ppid,pgid,sid,c,stime,tty=TTY,time,args=CMD",
            None if self.jobs => "pid,pgid,sid,tty=TTY,time,comm=CMD",
            None if self.full => "user=UID,pid,ppid,c,stime,tty=TTY,time,args=CMD",
            None => "pid,tty=TTY,time,comm=CMD",
        })
    }

    fn own(&mut self, format: &str) {
        // A title of one's own runs to the end of the word.
        let (names, titled) = match format.find('=') {
            Some(at) => format.split_at(format[..at].rfind(',').map_or(0, |comma| comma + 1)),
            None => (format, ""),
        };
        self.own.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        self.own.extend((!titled.is_empty()).then(|| titled.to_owned()));
    }
}

fn parse(arguments: &str) -> Option<Wish> {
    let mut wish = Wish::default();
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            match name {
                "format" => wish.own(value.or_else(|| words.next())?),
                "forest" | "headers" | "no-headers" | "no-heading" | "deselect" | "cumulative" => {}
                "sort" | "cols" | "columns" | "width" | "lines" | "rows" | "pid" | "ppid" | "user" | "User"
                | "group" | "Group" | "tty" | "sid" | "quick-pid" => {
                    value.or_else(|| words.next())?;
                }
                _ => return None,
            }
            continue;
        }
        match word.strip_prefix('-') {
            // "ps -aux" has meant "ps aux" for as long as there has been no user called x.
            Some(letters) if letters.starts_with("au") && letters.contains('x') => bsd(&mut wish, letters, &mut words)?,
            Some(letters) => system_five(&mut wish, letters, &mut words)?,
            None => bsd(&mut wish, word, &mut words)?,
        }
    }
    Some(wish)
}

/// What is left of a word is the value of the option in it, else the next word is.
fn value<'a>(rest: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if rest.is_empty() { words.next() } else { Some(rest) }
}

fn system_five<'a>(wish: &mut Wish, letters: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Option<()> {
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        match letter {
            'e' | 'A' | 'a' | 'd' | 'N' | 'w' | 'H' | 'c' | 'x' => {}
            'f' => wish.full = true,
            'F' => (wish.full, wish.extra) = (true, true),
            'l' => wish.long = true,
            'j' => wish.jobs = true,
            'y' => wish.no_address = true,
            'o' => {
                wish.own(value(rest, words)?);
                return Some(());
            }
            'p' | 'C' | 'u' | 'U' | 'g' | 'G' | 't' | 's' | 'q' => return value(rest, words).map(drop),
            _ => return None,
        }
    }
    Some(())
}

fn bsd<'a>(wish: &mut Wish, letters: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Option<()> {
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        match letter {
            'a' | 'x' | 'e' | 'w' | 'r' | 'c' | 'g' | 'n' | 'T' | 'f' | 'h' | 'S' => {
                wish.bsd.get_or_insert(' ');
            }
            'u' | 'l' | 'j' => wish.bsd = Some(letter),
            'o' => {
                wish.own(value(rest, words)?);
                return Some(());
            }
            'p' | 't' | 'U' | 'k' | 'q' => return value(rest, words).map(drop),
            // A list of process ids.
            '0'..='9' => return Some(()),
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> Result<String, String> {
        let columns = columns(arguments).map_err(|e| e.to_string())?;
        Ok(columns.into_iter().map(|c| c.title).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn forms_of_ps() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        let user = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for (arguments, want) in [
            ("-ef", full),
            ("-Af --forest --sort=-pid", full),
            ("-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
            ("-el", "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD"),
            ("-ely", "S UID PID PPID C PRI NI RSS SZ WCHAN TTY TIME CMD"),
            ("-ejH", "PID PGID SID TTY TIME CMD"),
            ("aux", user),
            ("-auxww", user),
            ("axjf", "PPID PID PGID SID TTY TPGID STAT UID TIME COMMAND"),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-e", "PID TTY TIME CMD"),
            ("-o pid,comm", "PID COMMAND"),
            ("-eo user,pid,args=WHAT IT", "USER PID WHAT"),
            ("-axo pid -o etime", "PID ELAPSED"),
            ("-C sleep -o pid,lstart", "PID STARTED"),
            ("--format pid,nlwp", "PID NLWP"),
        ] {
            let arguments = arguments.strip_suffix(" IT").unwrap_or(arguments);
            assert_eq!(titles(arguments).as_deref(), Ok(want), "{arguments}");
        }
        assert_eq!(titles("-o comm").unwrap_err(), "Couldn't find PID field in ps output");
        for odd in ["--cheese", "-o pid,cheese", "-Z", "v"] {
            assert!(titles(odd).unwrap_err().contains("not implemented"), "{odd}");
        }
    }
}

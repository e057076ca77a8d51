//! What commands over several names or rows share.

use std::collections::BTreeMap;
use std::future::Future;

use budu_spec::Filters;
use jiff::Timestamp;
use jiff::tz::Offset;

use crate::data::Data;
use crate::error::Error;
use crate::table::put_line;

/// Does the same to every name, side by side; prints each name that went well and each error.
/// Returns the exit status.
pub(super) async fn each<'a, F>(names: &'a [String], mut act: impl FnMut(&'a String) -> F) -> Result<i32, Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let results = futures_util::future::join_all(names.iter().map(&mut act)).await;
    let mut code = 0;
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => put_line(name)?,
            Err(error) => {
                eprintln!("{error}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// `--filter` flags as the API's parameter.
pub(super) fn filters(flags: &[String]) -> Filters {
    let mut filters = Filters::default();
    for (key, value) in flags.iter().filter_map(|flag| flag.split_once('=')) {
        filters.add(&key.trim().to_lowercase(), value.trim());
    }
    filters
}

/// `.Labels` and `.Label "key"`.
pub(super) fn label_members(labels: &BTreeMap<String, String>) -> [(String, Data); 2] {
    let joined: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pairs = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    [("Labels".to_owned(), Data::Text(joined.join(","))), ("Label".to_owned(), Data::Lookup(pairs))]
}

/// A Unix time as the CREATED AT columns show it.
pub(super) fn created_at(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return String::new() };
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

//! The timeouts of IPVS connections and their previous values.

use std::time::Duration;

use super::super::netlink::attr::{attributes, behind, u32_of};
use super::super::netlink::{Outcome, Request, Socket, refused};
use super::super::record::{Change, Record};
use super::super::{KernelError, Mended};
use super::message::{HEADER, command};
use super::{IpVs, attr};

/// TCP, TCP after FIN, UDP: name in the record, and attribute.
const TIMEOUTS: [(&str, u16); 3] = [
    ("tcp", attr::CMD_TIMEOUT_TCP),
    ("tcp_fin", attr::CMD_TIMEOUT_TCP_FIN),
    ("udp", attr::CMD_TIMEOUT_UDP),
];

impl<S: Socket> IpVs<S> {
    /// Sets the timeouts for TCP, TCP after FIN, and UDP, if they differ. Zero leaves a timeout unchanged. The previous values go
    /// into `record`. Returns those that it changed.
    pub(crate) async fn set_timeouts(
        &mut self,
        timeouts: [Duration; 3],
        record: &Record,
    ) -> Result<Vec<Mended>, KernelError> {
        let wanted = timeouts.map(|t| u32::try_from(t.as_secs()).unwrap_or(u32::MAX));
        if wanted == [0; 3] {
            return Ok(Vec::new());
        }
        let now = self.timeouts().await?;
        let differs = |((name, _), (before, set)): (&(&str, u16), (u32, u32))| {
            let change = Change {
                before: before.to_string(),
                set: set.to_string(),
            };
            (set != 0 && set != before).then(|| ((*name).to_owned(), change))
        };
        let pairs = now.into_iter().zip(wanted);
        let changes: Vec<_> = TIMEOUTS.iter().zip(pairs).filter_map(differs).collect();
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mended = changes.iter().map(|(name, change)| Mended {
            what: format!("the IPVS timeout {name} (in seconds)"),
            was: change.before.clone(),
            is: change.set.clone(),
        });
        let mended = mended.collect();
        record
            .note(changes)
            .map_err(|e| refused(format!("write {}", record.file().display()), e))?;
        self.write_timeouts(wanted).await?;
        Ok(mended)
    }

    /// Restores what [`IpVs::set_timeouts`] changed, unless somebody has changed it since, and clears the record.
    pub(crate) async fn restore_timeouts(&mut self, record: &Record) -> Result<(), KernelError> {
        let broken = |e| refused(format!("read {}", record.file().display()), e);
        let changes = record.load().map_err(broken)?;
        if changes.is_empty() {
            return Ok(());
        }
        let mut old = [0; 3];
        let places = TIMEOUTS.iter().zip(self.timeouts().await?).zip(&mut old);
        for (((name, _), now), old) in places {
            if let Some(change) = changes.get(*name)
                && change.set == now.to_string()
            {
                *old = change.before.parse().unwrap_or(0);
            }
        }
        if old != [0; 3] {
            self.write_timeouts(old).await?;
        }
        record
            .store(&Default::default())
            .map_err(|e| refused(format!("remove {}", record.file().display()), e))
    }

    async fn timeouts(&mut self) -> Result<[u32; 3], KernelError> {
        let request = self.message(command::GET_CONFIG, Vec::new());
        let answer = self.channel.get(request, |_, payload| {
            let mut found = [0; 3];
            for attribute in attributes(behind(payload, HEADER)?) {
                let (kind, value) = attribute?;
                for ((_, wanted), place) in TIMEOUTS.iter().zip(&mut found) {
                    if kind == *wanted {
                        *place = u32_of(value).unwrap_or(0);
                    }
                }
            }
            Ok(found)
        });
        answer
            .await?
            .map_err(|e| refused("read the timeouts of IPVS", e))
    }

    /// In seconds. Zero leaves a timeout unchanged.
    async fn write_timeouts(&mut self, seconds: [u32; 3]) -> Result<(), KernelError> {
        let attributes = TIMEOUTS
            .iter()
            .zip(seconds)
            .map(|((_, kind), seconds)| attr::nla_u32(*kind, seconds));
        let message = self.message(command::SET_CONFIG, attributes.collect());
        let mut outcomes = self.channel.pipeline(&[Request::new(0, message)]).await;
        let error = outcomes
            .pop()
            .unwrap_or(Outcome::Unsent)
            .error(|| "set the timeouts of IPVS".to_owned());
        error.map_or(Ok(()), Err)
    }
}

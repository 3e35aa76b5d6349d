//! Obtaining a pass, for one call and for all who wait for it: the login is on its way whether or not
//! whoever caused it stays.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::pass::{DOUBT, Fault, Gained, Lease, Look, Pass, Slot, Verdict};
use super::{Source, Unsigned};
use crate::audit::Entry;
use crate::clock::Clock;
use crate::code::Code;
use crate::custody::Unsealed;
use crate::transport::{Endpoint, Failure, Fetched, Manners, Signed, fetch};

/// How often a call waits for a login that is cut off: by a worker that ends.
const PATIENCE: u32 = 4;

/// What obtaining a pass takes, for the call that an entry stands for.
pub struct Errand<'e, 's> {
    /// The call.
    pub entry: &'e Entry,
    /// Its credential.
    pub credential: &'s Unsealed<'e>,
    /// Where passes of this credential are kept; none where its scheme has no such.
    pub slot: Option<&'s Arc<Slot>>,
    /// The upstream.
    pub endpoint: &'s Endpoint,
    /// What it wants of a request.
    pub manners: &'s Manners,
    /// Where else to ask, where the upstream cannot be reached there.
    pub around: Option<(&'s Endpoint, &'s Manners)>,
    /// The time of day.
    pub clock: &'s Arc<dyn Clock>,
    /// Counts the logins that were begun.
    pub logins: Cell<u32>,
}

/// A request by which a pass is asked for, ready to be sent.
pub(super) struct Asking<'e> {
    pub(super) to: Endpoint,
    pub(super) signed: Signed<'e>,
    /// What must not be repeated where the answer's words are.
    pub(super) secret: Zeroizing<Vec<u8>>,
}

/// The same on its way.
struct Asked {
    answer: Pin<Box<dyn Future<Output = Result<Fetched, Failure>>>>,
    secret: Zeroizing<Vec<u8>>,
    refresh: bool,
}

impl Errand<'_, '_> {
    /// A pass: the one there is, or a new one. Where another obtains it already, it is waited for.
    ///
    /// # Errors
    /// [`Failure`] where there is none to be had.
    pub(super) async fn obtain(&self, source: &Source) -> Result<Arc<Pass>, Failure> {
        let slot = self.slot.ok_or_else(|| internal("no place for a pass"))?;
        for _ in 0..PATIENCE {
            let flight = match slot.look(self.clock.now()) {
                Look::Good(pass) => return Ok(pass),
                Look::Due(pass, lease) => {
                    // The pass at hand is good: what is wrong is told once it is not.
                    self.start(lease, source).unwrap_or_default();
                    return Ok(pass);
                }
                Look::Held(fault) => return Err(fault.into()),
                Look::Turn(lease) => {
                    let flight = lease.flight();
                    self.start(lease, source).map_err(|error| internal(&error))?;
                    flight
                }
                Look::Wait(flight) => flight,
            };
            let landed = match slot.left(self.clock.now()) {
                None => flight.landed().await,
                Some(left) => match tokio::time::timeout(DOUBT, flight.landed()).await {
                    Ok(landed) => landed,
                    Err(_) => return Ok(left),
                },
            };
            match landed {
                Some(Ok(pass)) => return Ok(pass),
                Some(Err(fault)) => return slot.left(self.clock.now()).ok_or_else(|| fault.into()),
                None => {}
            }
        }
        Err(internal("every login was cut off"))
    }

    /// The same by the other way, where there is one.
    fn led_around(&self) -> Option<Self> {
        let (endpoint, manners) = self.around?;
        let Self { entry, credential, slot, clock, .. } = *self;
        let (around, logins) = (None, Cell::new(0));
        Some(Self { entry, credential, slot, endpoint, manners, around, clock, logins })
    }

    /// Sends what asks for a pass. What comes of it everybody learns from the lease.
    fn start(&self, lease: Lease, source: &Source) -> Result<(), Unsigned> {
        let mut asked = Vec::new();
        let ready = |asking: Asking<'_>, refresh| Asked {
            answer: Box::pin(fetch(&asking.to, asking.signed)),
            secret: asking.secret,
            refresh,
        };
        if let Some(token) = lease.refresh()
            && let Some(asking) = source.refreshing(self, token)?
        {
            asked.push(ready(asking, true));
        }
        asked.push(ready(source.asking(self)?, false));
        if let Some(around) = self.led_around() {
            asked.push(ready(source.asking(&around)?, false));
        }
        self.logins.set(self.logins.get() + 1);
        let (source, clock) = (source.clone(), Arc::clone(self.clock));
        // Not joined: it ends by itself within the endpoint's time-out, or with its worker, and
        // whoever waits for it learns of either.
        drop(tokio::task::spawn_local(fly(lease, (asked, source), clock)));
        Ok(())
    }
}

async fn fly(mut lease: Lease, (asked, source): (Vec<Asked>, Source), clock: Arc<dyn Clock>) {
    let mut landed: Result<Gained, Fault> = Err(Fault::unjudged("nothing was asked"));
    let mut sent = None;
    for Asked { answer, secret, refresh } in asked {
        landed = match answer.await {
            Ok(fetched) => source.read(&fetched, clock.now(), &secret),
            Err(failure) => Err(failure.into()),
        };
        match &landed {
            Err(fault) if refresh && fault.verdict != Verdict::Unheard => lease.forget_refresh(),
            Err(fault) if fault.is_of_connecting() => {}
            Ok(_) | Err(_) => {
                sent = Some(secret);
                break;
            }
        }
    }
    if let (Err(fault), Some(secret)) = (&landed, sent)
        && fault.counts()
    {
        lease.mark(secret).await;
    }
    lease.land(landed, clock.now());
}

fn internal(error: &(impl std::fmt::Display + ?Sized)) -> Failure {
    Failure { code: Code::Internal, reason: error.to_string() }
}

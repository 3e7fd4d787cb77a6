//! tokio for openraft, with the one thing that a simulator must be able to repeat, the random numbers of elections, and with
//! timeouts that a question may prolong: a vote waits for a disk, which may take longer than openraft foresees.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::rt::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng, TryRng};

thread_local! {
    /// What the future that was polled last asks of the timeout around it.
    static PATIENCE: Cell<Option<Duration>> = const { Cell::new(None) };
    static RNG: RefCell<SmallRng> = RefCell::new(rand::make_rng());
}

/// Makes the random numbers that openraft draws on this thread a function of `seed`.
pub fn seed_thread(seed: u64) {
    RNG.with(|rng| *rng.borrow_mut() = SmallRng::seed_from_u64(seed));
}

/// The generator of this thread: seeded from the system, or by [`seed_thread`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadRng;

impl TryRng for ThreadRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(RNG.with(|rng| rng.borrow_mut().next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(RNG.with(|rng| rng.borrow_mut().next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        RNG.with(|rng| rng.borrow_mut().fill_bytes(bytes));
        Ok(())
    }
}

/// Has the timeout right around this future, if there is one, last for `limit` from its beginning where that is longer.
pub async fn patient<F: Future>(limit: Duration, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            PATIENCE.set(Some(limit));
        }
        polled
    })
    .await
}

/// A timeout has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

/// A future with a timeout that it may prolong: see [`patient`].
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    end: Pin<Box<tokio::time::Sleep>>,
    begun: tokio::time::Instant,
}

impl<F: Future> Timeout<F> {
    fn new(limit: Duration, future: F) -> Self {
        let begun = tokio::time::Instant::now();
        Self { future: Box::pin(future), end: Box::pin(tokio::time::sleep(limit)), begun }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        PATIENCE.set(None);
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Some(end) = PATIENCE.take().map(|limit| self.begun + limit)
            && end > self.end.deadline()
        {
            self.end.as_mut().reset(end);
        }
        self.end.as_mut().poll(cx).map(|()| Err(TimedOut))
    }
}

/// openraft's tokio runtime with [`ThreadRng`] and [`Timeout`]; all else is passed on.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = TimedOut;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = ThreadRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Timeout::new(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Timeout::new(deadline.saturating_duration_since(Self::Instant::now()), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ThreadRng
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeout_ends_as_it_was_set_or_when_the_patience_of_its_future_does() {
        let ms = Duration::from_millis;
        let slow = || tokio::time::sleep(ms(500));
        assert_eq!(Runtime::timeout(ms(100), slow()).await, Err(TimedOut));
        assert_eq!(Runtime::timeout(ms(100), patient(ms(600), slow())).await, Ok(()));
        assert_eq!(Runtime::timeout(ms(100), patient(ms(400), slow())).await, Err(TimedOut));
        assert_eq!(Runtime::timeout(ms(600), patient(ms(100), slow())).await, Ok(()), "never shorter");
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = |seed| {
            seed_thread(seed);
            (0..8).map(|_| Runtime::thread_rng().next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}

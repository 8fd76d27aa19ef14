//! A pool of worker processes that share a queue. The program starts itself again
//! as the workers; one of them is killed with a job in hand, and another does it.
//!
//! ```text
//! cargo run --example workers
//! ```

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::io::{self, Read};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use quoit::Options;
use quoit::mpmc::{Receiver, Sender};

const WORKERS: usize = 3;
const JOBS: u64 = 8;
/// The worker that gets this job first is killed.
const FATAL: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    match &args[..] {
        [_, me, jobs, news] => work(me, jobs, news),
        _ => manage(),
    }
}

fn manage() -> Result<(), Box<dyn Error>> {
    // One ring takes the jobs to the workers, the other brings the news of all of
    // them back.
    let (to, from) = (format!("jobs-{}", process::id()), format!("news-{}", process::id()));
    let jobs = Sender::create(&to, &Options::new())?;
    let news = Receiver::create(&from, &Options::new())?;
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([&worker.to_string(), &to, &from]).stdin(Stdio::piped());
        workers.push(command.spawn()?);
    }

    println!("{WORKERS} workers share {JOBS} jobs");
    for job in 1..=JOBS {
        jobs.send(&job.to_le_bytes())?;
    }
    let mut done = 0;
    while done < JOBS {
        let told = String::from_utf8(news.recv_timeout(Duration::from_secs(30))?.to_vec())?;
        match told.split_once(" holds ") {
            Some((worker, job)) => {
                println!("worker {worker} holds job {job}, and is killed");
                workers[worker.parse::<usize>()?].kill()?;
            }
            None => {
                println!("{told}");
                done += 1;
            }
        }
    }

    drop(jobs); // The workers see the end of the jobs.
    for mut worker in workers {
        worker.wait()?;
    }
    quoit::unlink(&to)?;
    quoit::unlink(&from)?;
    println!("all {JOBS} jobs are done");
    Ok(())
}

fn work(me: &str, jobs: &str, news: &str) -> Result<(), Box<dyn Error>> {
    let jobs = Receiver::open(jobs)?;
    let news = Sender::open(news)?;
    while let Ok(job) = jobs.recv() {
        let mut number = [0; 8];
        job.copy_to(&mut number);
        let number = u64::from_le_bytes(number);
        if number == FATAL && !job.redelivered() {
            news.send(format!("{me} holds {number}").as_bytes())?;
            io::stdin().read_exact(&mut [0])?; // Waits to be killed.
        }

        let below = number * 10_000;
        let primes = (2..below).filter(|&n| is_prime(n)).count();
        let mut told = format!("worker {me} did job {number}: {primes} primes below {below}");
        if job.redelivered() {
            told += &format!(" (attempt {})", job.attempts());
        }
        // A worker that died between these two would leave a job that is done to
        // another: jobs are done at least once. Who minds looks at `redelivered`.
        news.send(told.as_bytes())?;
        drop(job);
    }
    Ok(())
}

fn is_prime(n: u64) -> bool {
    (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
}

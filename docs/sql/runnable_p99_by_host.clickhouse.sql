-- For how long do tasks wait for a CPU on each host: the 99th percentile and the longest?
select host, count(*) as waits, quantileExactLow(0.99)(runnable_ns) as p99_ns,
       max(runnable_ns) as longest_ns
from stretches
where runnable_ns > 0
group by host
order by host;

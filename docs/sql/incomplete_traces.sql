-- Which hosts have traces that lack something, and how much can a figure be off?
select host, count(*) as traces, sum(case when complete then 0 else 1 end) as incomplete,
       sum(lost_records) as lost, sum(tasks_not_followed) as not_followed,
       sum(unknown_ns) as not_known_ns, max(uncertain_ns) as off_by_at_most_ns
from audit
group by host
order by incomplete desc, lost desc, host;

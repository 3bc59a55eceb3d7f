-- For how long were two services all blocked at the same time? Of the stalls that are listed
-- (audit.stalls_listed of audit.stalls).
with of_service as (
  select g.name as service, s.host as host, s.start_ns as from_ns, s.start_ns + s.length_ns as until_ns
  from stalls s
  join task_groups g on g.trace = s.trace and g.group_id = s.group_id
  where g.kind = 'tree' and s.verdict <> 'idle'
)
select a.service as one, b.service as other, count(*) as overlaps,
       sum(case when a.until_ns < b.until_ns then a.until_ns else b.until_ns end
         - case when a.from_ns > b.from_ns then a.from_ns else b.from_ns end) as ns
from of_service a
join of_service b on a.host = b.host
where a.service < b.service and a.from_ns < b.until_ns and b.from_ns < a.until_ns
group by a.service, b.service
order by ns desc, one, other;

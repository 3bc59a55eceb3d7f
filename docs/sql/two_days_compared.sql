-- Which deployment changed what: time blocked per second recorded, by role and reason, on the
-- first day that there is and on the last one. Put other days in place of the sub-queries.
with recorded as (
  select day, sum(duration_ns) as ns
  from audit
  where day = (select min(day) from audit) or day = (select max(day) from audit)
  group by day
), blocked as (
  select m.day as day, m.role as role, m.reason as reason, sum(m.ns) as ns
  from minutes m
  where m.state = 'blocked' and m.day in (select day from recorded)
  group by m.day, m.role, m.reason
), shares as (
  select b.role as role, b.reason as reason,
         sum(case when b.day = (select min(day) from audit) then 1.0 * b.ns / r.ns else 0 end) as before_day,
         sum(case when b.day = (select max(day) from audit) then 1.0 * b.ns / r.ns else 0 end) as after_day
  from blocked b
  join recorded r on r.day = b.day
  group by b.role, b.reason
)
select role, reason, round(before_day, 6) as before_share, round(after_day, 6) as after_share,
       round(after_day - before_day, 6) as change
from shares
order by abs(round(after_day - before_day, 6)) desc, role, reason
limit 50;

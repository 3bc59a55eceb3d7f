-- Which deployment changed what: time blocked per second recorded, by role and reason, on the
-- first day that there is and on the last one. Put other days in place of the two sub-queries.
with recorded as (
  select day, sum(duration_ns) as ns from audit group by day
), blocked as (
  select s.day as day, s.role as role, s.reason as reason, sum(s.blocked_ns) as ns
  from stretches s
  where s.state = 'blocked'
  group by s.day, s.role, s.reason
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

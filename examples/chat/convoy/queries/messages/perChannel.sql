-- How busy each channel is: plain SQL, live like the rest.
-- @notnull channel
-- @notnull messages
select doc->>'channel' as channel, count(*)::int4 as messages
from messages
group by doc->>'channel'
order by channel

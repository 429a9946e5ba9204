"""Reports: charts, contact sheets, videos, terminal tables and the HTML page. Needs no simulator."""

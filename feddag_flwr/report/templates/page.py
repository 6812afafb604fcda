"""The whole page."""

PAGE = """\
{% import "table" as tables %}
{% macro shown(picture) %}
<figure id="figure-{{ picture.title|lower|replace(" ", "-") }}"><h3>{{ picture.title }}</h3>
{{ picture.svg|safe }}
<figcaption>{{ picture.words }}</figcaption></figure>
{% endmacro %}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Run {{ title }}</title>
<style>
{% include "style" %}
</style></head>
<body>
<header>
<h1>Run {{ title }}</h1>
<p class="lead">{{ lead }}</p>
{% for sentence in more %}
<p>{{ sentence }}</p>
{% endfor %}
{% if faults %}
<div class="faults" role="note"><strong>Not all of the folder could be used.</strong>
<ul>
{% for fault in faults %}
<li>{{ fault }}</li>
{% endfor %}
</ul></div>
{% endif %}
<nav aria-label="Sections"><ul>
{% for key, word in [("ran", "What ran"), ("rounds", "Rounds"), ("clusters", "Clusters"),
  ("proximity", "Proximity"), ("clients", "Clients"), ("odd", "Odd clients and failures"),
  ("settings", "Settings"), ("next", "What next")] %}
<li><a href="#{{ key }}">{{ word }}</a></li>
{% endfor %}
</ul></nav>
</header>
<main>
<section id="ran"><h2>What ran</h2>
<dl>
{% for word, value in facts %}
<dt>{{ word }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl></section>
<section id="rounds"><h2>Rounds</h2>
{% if curves %}
<div class="figures">
{% for picture in curves %}
{{ shown(picture) }}
{% endfor %}
</div>
{% else %}
<p>No round has left a figure.</p>
{% endif %}
</section>
<section id="clusters"><h2>Clusters</h2>
{% if clusters %}
{{ tables.show(clusters) }}
{% else %}
<p>The table of clusters is there once the run has ended.</p>
{% endif %}
{% if teachers %}
<h3 id="teachers">Who learns from whom</h3>
<div class="wide" tabindex="0" role="region" aria-label="Who learns from whom">
<table class="teachers"><caption>A row's cluster learns from the marked ones</caption>
<thead><tr><td></td>
{% for row in teachers %}
<th scope="col">{{ loop.index0 }}</th>
{% endfor %}
</tr></thead><tbody>
{% for row in teachers %}
<tr><th scope="row">{{ loop.index0 }}</th>
{%- for on in row -%}
<td{% if on %} class="on"{% endif %}>{{ "●" if on else "" }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p>No cluster learns from others, or more than can be drawn do.</p>
{% endif %}
{% if classes %}
{{ shown(classes) }}
{% else %}
<p>Class counts: n/a. This run has not asked for them.</p>
{% endif %}
</section>
<section id="proximity"><h2>Proximity</h2>
{% if matrices or sweep %}
<div class="figures">
{% for picture in matrices %}
{{ shown(picture) }}
{% if loop.first and sweep %}
{{ shown(sweep) }}
{% endif %}
{% endfor %}
{% if sweep and not matrices %}
{{ shown(sweep) }}
{% endif %}
</div>
{% else %}
<p>This run has left no proximity matrices.</p>
{% endif %}
{% if tests %}
<h3>What parted the clients</h3>
<ul class="tests">
{% for depth, line in tests %}
<li style="padding-left: {{ 1.5 * depth }}rem">{{ line }}</li>
{% endfor %}
</ul>
{% endif %}
</section>
<section id="clients"><h2>Clients</h2>
{% if clients %}
{{ tables.show(clients) }}
{% else %}
<p>No client is known.</p>
{% endif %}
</section>
<section id="odd"><h2>Odd clients and failures</h2>
{% if sentences %}
<ul>
{% for sentence in sentences %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% elif ended %}
<p>None.</p>
{% else %}
<p>None so far. What was left out is told once the run has ended.</p>
{% endif %}
</section>
<section id="settings"><h2>Settings</h2>
{% if settings %}
{{ tables.show(settings) }}
{% else %}
<p>Settings: n/a.</p>
{% endif %}
</section>
<section id="next"><h2>What next</h2>
{% for command in commands %}
<p>{{ command.purpose }}:</p>
<pre><code>{{ command.line }}</code></pre>
{% endfor %}
</section>
</main>
<footer>Written from the files of the run folder; it loads nothing from a network.</footer>
<script>
{% include "script" %}
</script>
</body></html>
"""

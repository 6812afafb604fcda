"""A table with its field to search it."""

TABLE = """\
{% macro show(table) %}
<div class="sortable">
{% for note in table.notes %}
<p>{{ note }}</p>
{% endfor %}
{% if table.search %}
<p class="search"><label for="search-{{ table.key }}">{{ table.search }}</label>
<input type="search" id="search-{{ table.key }}" autocomplete="off">
<output for="search-{{ table.key }}">{{ table.rows|length }} rows</output></p>
{% endif %}
<div class="wide" tabindex="0" role="region" aria-label="{{ table.caption }}">
<table id="table-{{ table.key }}"><caption>{{ table.caption }}</caption>
<thead><tr>
{% for column in table.columns %}
<th scope="col" aria-sort="none"{% if table.numeric[loop.index0] %} class="n"{% endif %}>\
<button type="button">{{ column }}</button></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr{% if row[0].marked %} class="marked"{% endif %}>
{%- for cell in row -%}
<td{% if table.numeric[loop.index0] %} class="n"{% endif %}\
{% if cell.sorted_by %} data-v="{{ cell.sorted_by }}"{% endif %}>{{ cell.text }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div></div>
{% endmacro %}
"""

"""The report: one HTML page that shows the results of many elements, and its tables and figures as files.

=============  =======================================================================================
``records``    what is read from a run folder: score, parameters, trials, manifest, checked on reading
``collect``    finds the run folders and says what is missing or damaged
``figures``    the figures of a report card that the periodic table can be coloured by
``elements``   what the page shows of one element: curves, tables, provenance
``delta``      delta models: what their files record of held-out structures
``page``       puts data and template together
``tables``     the same content as rows for CSV files
``plots``      the same content as figures for image files
=============  =======================================================================================

Everything is a pure function of the files read: the same input gives the same bytes.
"""

from dftbparam.report.html.collect import Collection, Problem, Result, collect_results, restrict
from dftbparam.report.html.figures import FIGURES, Figure
from dftbparam.report.html.page import render_page
from dftbparam.report.html.plots import element_plots, table_plots
from dftbparam.report.html.tables import report_tables

__all__ = [
    "FIGURES",
    "Collection",
    "Figure",
    "Problem",
    "Result",
    "collect_results",
    "element_plots",
    "render_page",
    "report_tables",
    "restrict",
    "table_plots",
]

"""Result folders → one offline HTML page, Markdown or JSON."""
